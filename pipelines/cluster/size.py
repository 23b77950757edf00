"""How large the Argo workflow of a run becomes, added up before it is submitted.

Argo keeps the inputs and outputs of every node, and Kubeflow Pipelines 2.17 passes each step's component, container and
platform through a driver to its pod as a patch of the pod. Above Argo's limit the nodes are compressed, and Kubeflow,
which reads none that are, shows no more of the run's steps. The nodes and what they hold are those of recorded
workflows; the constants are what was measured there.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import yaml

# Of the workflow's JSON, in bytes: Argo's default.
LIMIT = 1024 * 1024

Values = Mapping[str, Any]
# For each input or output its artifacts: the task and the output that each came from.
Artifacts = Mapping[str, list[tuple[str, str]]]
# The metadata that a task gives an output, both by name.
Described = Callable[[str, str], Values]

# As long as what stands in their places: a UUID, what a step returns, what our steps say of an artifact.
_ID = "0" * 36
_RETURNED = "models:/experiment-source/1#sha256=" + "0" * 64
DESCRIBED = {"digest": "sha256:" + "0" * 64, "run_id": "0" * 32, "figures": "0" * 80}
# Kubeflow says with each artifact where it is kept.
_SESSION = json.dumps(
    {
        "Provider": "minio",
        "Params": {
            "accessKeyKey": "accesskey",
            "disableSSL": "true",
            "endpoint": "seaweedfs.kubeflow:9000",
            "fromEnv": "false",
            "maxRetries": "5",
            "region": "minio",
            "secretKeyKey": "secretkey",
            "secretName": "mlpipeline-minio-artifact",
        },
    },
    separators=(",", ":"),
)
_STORE = "mlpipeline/private-artifacts/headstart/v2/artifacts"
_PARAMETERS = "/tmp/kfp/outputs/"  # noqa: S108 (in the pod)
_LAUNCHER = [
    "--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)",
    "--ml_pipeline_server_address", "ml-pipeline.kubeflow.svc.cluster.local", "--ml_pipeline_server_port", "8887",
    "--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local", "--mlmd_server_port", "8080",
    "--publish_logs", "true", "--publish_logs", "true", "--",
]  # fmt: skip

# Bytes of a node beside its name, its inputs and its outputs; of what a pod leaves beside its outputs: the address of
# its log; of a driver's output beside its value.
_NODE = {"DAG": 515, "Pod": 465, "Retry": 420, "TaskGroup": 450}
_LOG, _OUTPUT = 210, 70
# Bytes of the workflow beside nodes and arguments, of an argument beside its value, of a graph's template, of a task in
# one, of which a graph's has one and a step's two parts, and of the templates for pods with the same kinds of metadata.
_WORKFLOW, _ARGUMENT, _GRAPH, _TASK, _PODS = 8_500, 130, 700, 600, 3_000


def workflow_bytes(
    package: str, parameters: Values, *, retry_nodes: bool, described: Described = lambda task, output: DESCRIBED
) -> int:
    """The size of a run's workflow when all its steps have run, each once.

    Args:
        package: the compiled pipeline with the platform's settings.
        parameters: of the run.
        retry_nodes: whether Argo gives every node another one for its retries, as Kubeflow Pipelines 2.17 configures
            it; else only a step that has retries gets one.
        described: the metadata of artifacts, by default as much as our steps write.
    """
    return _Workflow(*_read(package), retry_nodes, described).measure(parameters)


def warning(package: str, parameters: Values) -> str | None:
    """What a person should know of the size of a run's workflow before the run; None where nothing will be lost."""
    size = workflow_bytes(package, parameters, retry_nodes=True)
    if size <= LIMIT:
        return None
    fits = workflow_bytes(package, parameters, retry_nodes=False) <= LIMIT
    where = " unless Argo is configured without templateDefaults" if fits else ""
    return (
        f"The workflow of this run will grow to {size / LIMIT:.1f} MiB{where}. Above 1 MiB Argo compresses it, and "
        "Kubeflow's page shows neither the states of its steps nor their logs any more; `headstart runs` and "
        "`headstart logs` do. Fewer strategies in one recipe keep it below."
    )


@lru_cache(maxsize=1)
def _read(package: str) -> tuple[Values, Values]:
    """The pipeline, and what the platform gives each executor."""
    spec, *platforms = yaml.safe_load_all(package)
    return spec, platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}


class _Workflow:
    """Adds up the bytes of a workflow while it follows the graphs of a package."""

    def __init__(self, spec: Values, platform: Values, retry_nodes: bool, described: Described) -> None:
        self._spec, self._platform, self._retry_nodes, self._described = spec, platform, retry_nodes, described
        self._pipeline: str = spec["pipelineInfo"]["name"]
        self._bytes = 0

    def measure(self, parameters: Values) -> int:
        """The size of the workflow of a run with these parameters."""
        self._bytes = _WORKFLOW + self._arguments()
        workflow = f"{self._pipeline}-00000"
        self._node(workflow, "DAG")
        root = f"{self._within(workflow)}.root"
        self._graph_driver(f"{root}-driver", self._spec["root"], {}, _json({"parameterValues": parameters}))
        self._node(root, "DAG", {"parent-dag-id": "000"})
        self._graph(self._spec["root"], self._within(root), parameters, {})
        return self._bytes

    def _arguments(self) -> int:
        """What the workflow keeps once of each component, and the templates of its graphs."""
        components, executors = self._spec["components"], self._spec["deploymentSpec"]["executors"]
        graphs = [self._spec["root"], *(each for each in components.values() if "dag" in each)]
        # Steps of the same component share it.
        steps = {
            text
            for each in components.values()
            if "executorLabel" in each
            for text in (_json({**each, "executorLabel": ""}), _json(executors[each["executorLabel"]]["container"]))
        }
        kept = [*steps, *map(_json, graphs), *map(_json, self._platform.values())]
        tasks = [task for graph in graphs for task in graph["dag"]["tasks"].values()]
        labels = [components[task["componentRef"]["name"]].get("executorLabel") for task in tasks]
        passed = [
            _pod_metadata(self._platform.get(label, {})) | _retries(task)
            for label, task in zip(labels, tasks, strict=True)
            if label
        ]
        templates = len(graphs) * _GRAPH + (len(tasks) + len(passed)) * _TASK
        templates += sum(len(_json(_json(task))) for task in tasks) + sum(map(_listed, passed))
        templates += _PODS * len({frozenset(each) for each in passed})
        return templates + sum(_ARGUMENT + len(_json(text)) for text in kept)

    def _graph(self, graph: Values, path: str, parameters: Values, artifacts: Artifacts) -> Artifacts:
        """Adds the nodes of a graph's tasks, and returns what the graph puts out."""
        tasks = graph["dag"]["tasks"]
        made: dict[str, Artifacts] = {}
        for key in _in_order(tasks):
            task = tasks[key]
            component = self._spec["components"][task["componentRef"]["name"]]
            inputs = task.get("inputs", {})
            own = {name: _value(each, parameters) for name, each in inputs.get("parameters", {}).items()}
            given = {name: _found(each, artifacts, made) for name, each in inputs.get("artifacts", {}).items()}
            if "parameterIterator" in task:
                made[key] = self._loop(f"{path}.{key}", task, component, own, given)
            elif "dag" in component:
                self._graph_driver(f"{path}.{key}-driver", component, task)
                self._node(f"{path}.{key}", "DAG", {"parent-dag-id": "000"})
                made[key] = self._graph(component, self._within(f"{path}.{key}"), own, given)
            elif "triggerPolicy" in task:
                # The end of the graph that it waits for.
                hook = f"{path}.{task['dependentTasks'][0]}.onExit"
                self._node(hook, "DAG", {"parent-dag-id": "000"})
                made[key] = self._step(self._within(hook), key, task, component, own, given)
            else:
                made[key] = self._step(path, key, task, component, own, given)
        declared = graph["dag"].get("outputs", {}).get("artifacts", {})
        return {
            name: [
                each
                for chosen in source["artifactSelectors"]
                for each in made[chosen["producerSubtask"]][chosen["outputArtifactKey"]]
            ]
            for name, source in declared.items()
        }

    def _loop(self, path: str, task: Values, component: Values, parameters: Values, artifacts: Artifacts) -> Artifacts:
        """Adds the nodes of a loop and its turns; each of its outputs is a list with one artifact a turn."""
        self._node(path, "DAG", {"parent-dag-id": "000"})
        inner = f"{self._within(path)}.iteration"
        self._graph_driver(f"{inner}-driver", component, task)
        self._node(f"{inner}-iterations", "TaskGroup")
        iterator = task["parameterIterator"]
        collected: dict[str, list[tuple[str, str]]] = {}
        for number, item in enumerate(parameters[iterator["items"]["inputParameter"]]):
            turn = f"{inner}-iterations({number}:{number})"
            self._node(turn, "DAG", {"parent-dag-id": "000", "iteration-index": "0"})
            graph = f"{self._within(turn)}.iteration-item"
            self._graph_driver(f"{graph}-driver", component, task)
            self._node(graph, "DAG", {"parent-dag-id": "000"})
            own = {**parameters, iterator["itemInput"]: item}
            for name, each in self._graph(component, self._within(graph), own, artifacts).items():
                collected.setdefault(name, []).extend(each)
        return collected

    def _step(
        self, path: str, key: str, task: Values, component: Values, parameters: Values, artifacts: Artifacts
    ) -> Artifacts:
        """Adds the nodes of a step, and returns its outputs."""
        label = component["executorLabel"]
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        platform = self._platform.get(label, {})
        execution = self._execution(key, component, parameters, artifacts)
        patch = {"pod-spec-patch": _json(_patch(self._pipeline, execution, component, container, platform))}
        driver = {
            "component": _json(component),
            "task": _json(task),
            "container": _json(container),
            "task-name": key,
            "parent-dag-id": "000",
            "iteration-index": "-1",
            "kubernetes-config": _json(platform),
        }
        told = {**patch, "cached-decision": "false", "condition": "nil"}
        self._node(f"{path}.{key}-driver", "Pod", driver, told)
        pod = _pod_metadata(platform) | _retries(task)
        self._node(f"{path}.{key}", "DAG", {**patch, "cached-decision": "false", **pod})
        executor = f"{self._within(f'{path}.{key}')}.executor"
        self._node(executor, "Pod", {**patch, **pod}, retried="retryPolicy" in task)
        return {name: [(key, name)] for name in component.get("outputDefinitions", {}).get("artifacts", {})}

    def _execution(self, key: str, component: Values, parameters: Values, artifacts: Artifacts) -> Values:
        """What the launcher is told of a step's inputs and outputs."""
        root = f"{_STORE}/{self._pipeline}/{_ID}"
        outputs = component.get("outputDefinitions", {})
        kinds = {name: each["artifactType"] for name, each in outputs.get("artifacts", {}).items()}
        kinds["executor-logs"] = {"schemaTitle": "system.Artifact"}
        given = {
            name: {
                "artifacts": [
                    {
                        "name": "000",
                        "type": {"instanceSchema": ""},
                        "uri": f"minio://{root}/{task}/{_ID}/{output}",
                        "metadata": {
                            **self._described(task, output), "display_name": output, "store_session_info": _SESSION
                        },
                    }
                    for task, output in each
                ]
            }
            for name, each in artifacts.items()
        }  # fmt: skip
        return {
            "inputs": {"artifacts": given, "parameterValues": parameters},
            "outputs": {
                "parameters": {name: {"outputFile": _PARAMETERS + name} for name in outputs.get("parameters", {})},
                "artifacts": {
                    name: {"artifacts": [{"name": name, "type": kind, "uri": f"minio://{root}/{key}/{_ID}/{name}"}]}
                    for name, kind in kinds.items()
                },
                "outputFile": f"/minio/{root}/{key}/{_ID}/output_metadata.json",
            },
        }

    def _graph_driver(self, path: str, component: Values, task: Values, config: str = "") -> None:
        inputs = {
            "component": _json(component),
            "runtime-config": config,
            "task": _json(task) if task else "",
            "task-name": "",
            "parent-dag-id": "000",
            "iteration-index": "-1",
            "driver-type": "DAG",
        }
        self._node(path, "Pod", inputs, {"execution-id": "000", "iteration-count": "0", "condition": "nil"})

    def _node(
        self,
        path: str,
        kind: str,
        inputs: Values | None = None,
        outputs: Values | None = None,
        *,
        retried: bool = False,
    ) -> None:
        """Adds a node, and the one for its retries where there is one."""
        held = _listed(inputs or {}) + _listed(outputs or {}) + _OUTPUT * len(outputs or {})
        held += _LOG if kind == "Pod" else 0
        self._bytes += _NODE[kind] + len(path) + held
        if kind != "TaskGroup" and (self._retry_nodes or retried):
            self._bytes += _NODE["Retry"] + len(path) + held

    def _within(self, path: str) -> str:
        """How the names of what a node holds begin."""
        return f"{path}(0)" if self._retry_nodes else path


def _patch(pipeline: str, execution: Values, component: Values, container: Values, platform: Values) -> Values:
    """What a driver changes of the pod of a step."""
    launcher = ["/kfp-launcher/launch", "--pipeline_name", pipeline, "--run_id", _ID, "--execution_id", "000"]
    launcher += ["--executor_input", _json(execution), "--component_spec", _json(component), *_LAUNCHER]
    return {
        "volumes": [{"name": each["volumeName"], "emptyDir": each} for each in platform.get("emptyDirMounts", ())],
        "containers": [
            {
                "name": "main",
                "image": container["image"],
                "command": launcher,
                "args": [*container["command"], *container.get("args", ())],
                "env": [*container.get("env", ()), *_referenced(platform)],
                "resources": {
                    name: value for name, value in container.get("resources", {}).items() if isinstance(value, str)
                },
                "volumeMounts": [
                    {"name": each["volumeName"], "mountPath": each["mountPath"]}
                    for each in platform.get("emptyDirMounts", ())
                ],
                "securityContext": {"capabilities": {"drop": ["ALL"]}, **platform.get("securityContext", {})},
            }
        ],
        "imagePullSecrets": [{"name": each["secretName"]} for each in platform.get("imagePullSecret", ())],
    }


def _referenced(platform: Values) -> list[Values]:
    """A pod's variables whose values Kubernetes looks up."""
    found: list[Values] = [
        {"name": each["name"], "valueFrom": {"fieldRef": {"fieldPath": each["fieldPath"]}}}
        for each in platform.get("fieldPathAsEnv", ())
    ]
    for kind, key, reference in (
        ("secret", "secretKey", "secretKeyRef"),
        ("configMap", "configMapKey", "configMapKeyRef"),
    ):
        for each in platform.get(f"{kind}AsEnv", ()):
            found += [
                {
                    "name": entry["envVar"],
                    "valueFrom": {reference: {"name": each[f"{kind}Name"], "key": entry[key], "optional": False}},
                }
                for entry in each["keyToEnv"]
            ]
    return found


def _pod_metadata(platform: Values) -> dict[str, str]:
    """Labels and annotations, which pass through the nodes one by one."""
    metadata = platform.get("podMetadata", {})
    passed: dict[str, str] = {}
    for kind, values in (("label", metadata.get("labels", {})), ("annotation", metadata.get("annotations", {}))):
        for number, (key, value) in enumerate(values.items(), start=1):
            passed |= {f"pod-metadata-{kind}-key-{number}": key, f"pod-metadata-{kind}-val-{number}": value}
    return passed


def _retries(task: Values) -> dict[str, str]:
    if "retryPolicy" not in task:
        return {}
    return {
        "retry-max-count": "0",
        "retry-backoff-duration": "00",
        "retry-backoff-factor": "0",
        "retry-backoff-max-duration": "0000000",
    }


def _value(source: Values, parameters: Values) -> Any:
    """The value of a task's parameter, or something of its length."""
    match source:
        case {"runtimeValue": {"constant": value}}:
            return value
        case {"componentInputParameter": name}:
            return parameters.get(name)
        case {"taskFinalStatus": {"producerTask": task}}:
            return {"error": {}, "pipelineJobResourceName": task, "pipelineTaskName": task, "state": "COMPLETE"}
    return _RETURNED


def _found(source: Values, artifacts: Artifacts, made: Mapping[str, Artifacts]) -> list[tuple[str, str]]:
    """The artifacts that a task is given for an input."""
    if "componentInputArtifact" in source:
        return artifacts[source["componentInputArtifact"]]
    output = source["taskOutputArtifact"]
    return made[output["producerTask"]][output["outputArtifactKey"]]


def _in_order(tasks: Values) -> list[str]:
    """The tasks, each behind those that it depends on."""
    ordered: list[str] = []
    while len(ordered) < len(tasks):
        ordered += [
            key
            for key, task in tasks.items()
            if key not in ordered and set(ordered) >= set(task.get("dependentTasks", ()))
        ]
    return ordered


def _listed(values: Values) -> int:
    """The bytes of parameters in Argo's form."""
    return sum(len(_json({"name": name, "value": value})) + 1 for name, value in values.items())


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
