"""Size of a run's Argo workflow, estimated before submission.

Argo stores the inputs and outputs of every node, and Kubeflow Pipelines 2.17 passes each step's component, container
and platform settings through a driver to its pod as a patch. Above Argo's limit the nodes are compressed; Kubeflow
cannot read them and no longer shows the run's steps. The nodes, their content and the constants are taken from recorded
workflows: docs/studies/workflow-size.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from headstart_pipelines.cluster.steps import Step, steps_and_graphs
from headstart_pipelines.documents import read_documents

# Argo's default limit of the workflow's JSON, in bytes.
LIMIT = 1024 * 1024

Values = Mapping[str, Any]

# Bytes of a node besides its name, inputs and outputs; of a pod's log address; of a driver's output besides its value.
_NODE = {"DAG": 515, "Pod": 465, "Retry": 420}
_LOG, _OUTPUT = 210, 70
# Bytes of the workflow besides nodes and arguments, of an argument besides its value, of a graph's template, of a task
# in one (a graph has one part, a step two), and of the templates for pods with the same kinds of metadata.
_WORKFLOW, _ARGUMENT, _GRAPH, _TASK, _PODS = 8_500, 130, 700, 600, 3_000
# Content of a pod's patch besides the step's own: address and metadata of an input artifact and of an output artifact,
# and the launcher's arguments with the pod's fixed settings.
_GIVEN, _MADE, _LAUNCHER = "x" * 1200, "x" * 440, "x" * 900
_PARENT = {"parent-dag-id": "000"}


def workflow_bytes(package: str, parameters: Values, *, retry_nodes: bool) -> int:
    """Return the size of a run's workflow after each step has run once, in bytes.

    Args:
        package: the compiled pipeline with the platform's settings.
        parameters: of the run.
        retry_nodes: whether Argo adds a retry node to every node, as configured by Kubeflow Pipelines 2.17; if not,
            only steps with retries have one.
    """
    spec, platform = _read(package)
    nodes = _Nodes(len(spec["pipelineInfo"]["name"]) + len("-00000"), retry_nodes)
    size = _WORKFLOW + _templates(spec, platform) + nodes.size("", "DAG", {}, {})
    holding: set[str] = set()
    rounds = 0
    for step in steps_and_graphs(spec, parameters):
        levels = step.path.split(".")
        holding |= {".".join(levels[:count]) for count in range(1, len(levels))}
        if step.is_graph:
            rounds += step.path.endswith(".iteration-item")
            size += nodes.graph_driver(step, parameters)
        else:
            label = step.component["executorLabel"]
            container = spec["deploymentSpec"]["executors"][label]["container"]
            size += nodes.step(step, container, platform.get(label, {}), rounds)
    return size + sum(nodes.size(path, "DAG", _PARENT, {}) for path in holding)


def warning(package: str, parameters: Values) -> str | None:
    """Return a warning if a run's workflow will be too large to be shown, else None."""
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
    """Return the pipeline, and the platform settings of each executor."""
    spec, *platforms = read_documents(package)
    return spec, platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}


@dataclass(frozen=True)
class _Nodes:
    """Sizes of a workflow's nodes; `prefix` is the length of its name, with which the nodes' names begin."""

    prefix: int
    with_retries: bool

    def size(self, path: str, kind: str, inputs: Values, outputs: Values, *, retried: bool = False) -> int:
        """Return the bytes of a node, including its retry node if it has one."""
        # An attempt of a node with retries is called name(0), also in the names of the nodes inside it.
        name = self.prefix + len(path) + (3 * path.count(".") + 3 if self.with_retries else 0)
        held = name + _listed(inputs) + _listed(outputs) + _OUTPUT * len(outputs) + (_LOG if kind == "Pod" else 0)
        return _NODE[kind] + held + (_NODE["Retry"] + held if self.with_retries or retried else 0)

    def graph_driver(self, graph: Step, parameters: Values) -> int:
        """Return the bytes of a graph's driver; that of the whole pipeline includes the run's parameters."""
        inputs = {
            "component": _json(graph.component),
            "runtime-config": "" if graph.task else _json({"parameterValues": parameters}),
            "task": _json(graph.task) if graph.task else "",
            "task-name": "",
            "parent-dag-id": "000",
            "iteration-index": "-1",
            "driver-type": "DAG",
        }
        outputs = {"execution-id": "000", "iteration-count": "0", "condition": "nil"}
        return self.size(f"{graph.path}-driver", "Pod", inputs, outputs)

    def step(self, step: Step, container: Values, platform: Values, rounds: int) -> int:
        """Return the bytes of a step's nodes. A list of artifacts as input has one for each of the `rounds`
        of a loop."""
        patch = {"pod-spec-patch": _json(_patch(step, container, platform, rounds))}
        inputs = {
            "component": _json(step.component),
            "task": _json(step.task),
            "container": _json(container),
            "task-name": step.key,
            "parent-dag-id": "000",
            "iteration-index": "-1",
            "kubernetes-config": _json(platform),
        }
        decided = {**patch, "cached-decision": "false"}
        pod = _pod_metadata(platform) | _retries(step.task)
        driver = self.size(f"{step.path}-driver", "Pod", inputs, {**decided, "condition": "nil"})
        body = self.size(step.path, "DAG", {**decided, **pod}, {})
        return (
            driver
            + body
            + self.size(f"{step.path}.executor", "Pod", {**patch, **pod}, {}, retried="retryPolicy" in step.task)
        )


def _patch(step: Step, container: Values, platform: Values, rounds: int) -> Values:
    """Return the driver's patch of a step's pod: its container, with the launcher's arguments."""
    given = step.component.get("inputDefinitions", {}).get("artifacts", {})
    made = step.component.get("outputDefinitions", {}).get("artifacts", {})
    execution = {
        "given": {name: [_GIVEN] * (rounds if each.get("isArtifactList") else 1) for name, each in given.items()},
        "parameters": step.parameters,
        "made": dict.fromkeys(made, _MADE),
    }
    return {"command": [_LAUNCHER, _json(execution), _json(step.component)], "container": container, **platform}


def _templates(spec: Values, platform: Values) -> int:
    """Return the bytes of the parts stored once for each component, and of the templates of graphs."""
    components, executors = spec["components"], spec["deploymentSpec"]["executors"]
    graphs = [spec["root"], *(each for each in components.values() if "dag" in each)]
    leaves = [each for each in components.values() if "executorLabel" in each]
    # Steps with the same component share it.
    shared = {_json({**each, "executorLabel": ""}) for each in leaves}
    shared |= {_json(executors[each["executorLabel"]]["container"]) for each in leaves}
    kept = [*shared, *map(_json, graphs), *map(_json, platform.values())]
    tasks = [task for graph in graphs for task in graph["dag"]["tasks"].values()]
    labels = [components[task["componentRef"]["name"]].get("executorLabel") for task in tasks]
    passed = [
        _pod_metadata(platform.get(label, {})) | _retries(task)
        for label, task in zip(labels, tasks, strict=True)
        if label
    ]
    size = len(graphs) * _GRAPH + (len(tasks) + len(passed)) * _TASK + _PODS * len({frozenset(each) for each in passed})
    size += sum(len(_json(_json(task))) for task in tasks) + sum(map(_listed, passed))
    return size + sum(_ARGUMENT + len(_json(text)) for text in kept)


def _pod_metadata(platform: Values) -> dict[str, str]:
    """Return labels and annotations as the parameters by which they pass through the nodes."""
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


def _listed(values: Values) -> int:
    """Return the bytes of parameters in Argo's form."""
    return sum(len(_json({"name": name, "value": value})) + 1 for name, value in values.items())


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
