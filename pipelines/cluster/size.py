"""Size of the Argo workflow of a run, estimated before it is submitted.

Argo keeps the inputs and outputs of every node, and Kubeflow Pipelines 2.17 passes each step's component, container and
platform through a driver to its pod as a patch of the pod. Above Argo's limit the nodes are compressed, and Kubeflow,
which reads none that are, shows no more of the run's steps. The nodes and what they hold are those of recorded
workflows, and so are the constants: docs/studies/workflow-size.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from headstart_pipelines.cluster.steps import Step, steps_and_graphs

# Of the workflow's JSON, in bytes: Argo's default.
LIMIT = 1024 * 1024

Values = Mapping[str, Any]

# Bytes of a node beside its name, its inputs and its outputs; of what a pod leaves beside its outputs: the address of
# its log; of a driver's output beside its value.
_NODE = {"DAG": 515, "Pod": 465, "Retry": 420}
_LOG, _OUTPUT = 210, 70
# Bytes of the workflow beside nodes and arguments, of an argument beside its value, of a graph's template, of a task in
# one, of which a graph's has one and a step's two parts, and of the templates for pods with the same kinds of metadata.
_WORKFLOW, _ARGUMENT, _GRAPH, _TASK, _PODS = 8_500, 130, 700, 600, 3_000
# What stands in the patch of a step's pod beside the step's own: the address and metadata of an artifact that is given
# to it, of one that it makes, and the launcher's arguments with the pod's fixed settings.
_GIVEN, _MADE, _LAUNCHER = "x" * 1200, "x" * 440, "x" * 900
_PARENT = {"parent-dag-id": "000"}


def workflow_bytes(package: str, parameters: Values, *, retry_nodes: bool) -> int:
    """The size of a run's workflow when all its steps have run, each once.

    Args:
        package: the compiled pipeline with the platform's settings.
        parameters: of the run.
        retry_nodes: whether Argo gives every node another one for its retries, as Kubeflow Pipelines 2.17 configures
            it; else only a step that has retries gets one.
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
    """A warning that the workflow of a run will be too large to be shown; None where it will not."""
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


@dataclass(frozen=True)
class _Nodes:
    """The bytes of a workflow's nodes; `prefix` is the length of its name, which those of its nodes begin with."""

    prefix: int
    with_retries: bool

    def size(self, path: str, kind: str, inputs: Values, outputs: Values, *, retried: bool = False) -> int:
        """The bytes of a node, and of the one for its retries where there is one."""
        # A node with retries is called name(0), and so is what it holds.
        name = self.prefix + len(path) + (3 * path.count(".") + 3 if self.with_retries else 0)
        held = name + _listed(inputs) + _listed(outputs) + _OUTPUT * len(outputs) + (_LOG if kind == "Pod" else 0)
        return _NODE[kind] + held + (_NODE["Retry"] + held if self.with_retries or retried else 0)

    def graph_driver(self, graph: Step, parameters: Values) -> int:
        """The bytes of the driver of a graph, of which the whole pipeline's is given the run's parameters."""
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
        """The bytes of a step's nodes; a list of artifacts that it is given has one of each of so many `rounds`."""
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
    """The driver's patch of a step's pod: its container, with the launcher's arguments."""
    given = step.component.get("inputDefinitions", {}).get("artifacts", {})
    made = step.component.get("outputDefinitions", {}).get("artifacts", {})
    execution = {
        "given": {name: [_GIVEN] * (rounds if each.get("isArtifactList") else 1) for name, each in given.items()},
        "parameters": step.parameters,
        "made": dict.fromkeys(made, _MADE),
    }
    return {"command": [_LAUNCHER, _json(execution), _json(step.component)], "container": container, **platform}


def _templates(spec: Values, platform: Values) -> int:
    """Bytes of the parts that the workflow keeps once of each component, and of the templates of its graphs."""
    components, executors = spec["components"], spec["deploymentSpec"]["executors"]
    graphs = [spec["root"], *(each for each in components.values() if "dag" in each)]
    leaves = [each for each in components.values() if "executorLabel" in each]
    # Steps of the same component share it.
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


def _listed(values: Values) -> int:
    """The bytes of parameters in Argo's form."""
    return sum(len(_json({"name": name, "value": value})) + 1 for name, value in values.items())


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
