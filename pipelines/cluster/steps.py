"""The steps of a pipeline under the names that its file gives them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A step that a pipeline has: what people call it, and the path of its node below the workflow's own."""

    label: str
    path: str


@dataclass(frozen=True)
class Task:
    """A task of a compiled pipeline, or one round of a loop, with its component and what is known of its parameters."""

    label: str
    path: str
    key: str = ""
    spec: Values = field(default_factory=dict)
    component: Values = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)

    @property
    def is_graph(self) -> bool:
        """Whether it holds tasks, and is no step itself."""
        return "dag" in self.component


def steps_of(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> list[Step]:
    """The steps of a compiled pipeline in an order in which they may run, one for each round of a loop.

    `parameters` are the run's, from which loops take their rounds. A loop over what another step puts out has the
    rounds whose paths are among `seen`, those of the workflow's nodes.
    """
    return [Step(task.label, task.path) for task in tasks_of(package, parameters, seen) if not task.is_graph]


def tasks_of(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> Iterator[Task]:
    """The steps in the order of `steps_of`, and before each the graphs that hold it: loops and their rounds, too."""
    spec = package.get("pipeline_spec", package)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
    root = Task("", "root", component=spec["root"], parameters={**defaults, **parameters})
    yield root
    yield from _below(spec["components"], root, "", seen)


def _below(components: Values, graph: Task, suffix: str, seen: Collection[str]) -> Iterator[Task]:
    """The tasks in a graph, and those in them; `suffix` tells rounds apart that their steps are in."""
    for key, spec in _in_order(graph.component["dag"]["tasks"]):
        task = Task(
            label=spec.get("taskInfo", {}).get("name", key) + suffix,
            path=f"{_enclosing(graph.path, spec)}.{key}",
            key=key,
            spec=spec,
            component=components.get(spec["componentRef"]["name"], {}),
            parameters=_passed(spec, graph.parameters),
        )
        yield task
        if task.is_graph and "parameterIterator" not in spec:
            yield from _below(components, task, suffix, seen)
        elif task.is_graph:
            for index, item in _rounds(task, seen):
                name = item.get("name", index) if isinstance(item, Mapping) else item
                bound = {**task.parameters, spec["parameterIterator"]["itemInput"]: item}
                path = f"{_round(task.path, index)}.iteration-item"
                turn = replace(task, path=path, parameters=bound)
                yield turn
                yield from _below(components, turn, f"{suffix} {name}", seen)


def _enclosing(path: str, task: Values) -> str:
    """The path that a task's node hangs on. KFP makes an exit task a hook of the group that it follows."""
    follows = task.get("dependentTasks", ())
    if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED" and follows:
        return f"{path}.{follows[-1]}.onExit"
    return path


def _passed(task: Values, scope: Values) -> dict[str, Any]:
    """The parameters that a task hands on, without those that only another step will tell."""
    passed = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            passed[name] = source["runtimeValue"].get("constant")
        elif source.get("componentInputParameter") in scope and "parameterExpressionSelector" not in source:
            passed[name] = scope[source["componentInputParameter"]]
    return passed


def _rounds(loop: Task, seen: Collection[str]) -> Iterator[tuple[int, Any]]:
    """The rounds of a loop: their numbers and items; an item that nobody tells beforehand is its number."""
    items = loop.spec["parameterIterator"]["items"]
    values = json.loads(items["raw"]) if "raw" in items else loop.parameters.get(items["inputParameter"])
    if isinstance(values, list):
        yield from enumerate(values)
        return
    index = 0
    while _round(loop.path, index) in seen:
        yield index, index
        index += 1


def _round(place: str, index: int) -> str:
    """Argo's path for a round of the loop at `place`."""
    return f"{place}.iteration-iterations({index}:{index})"


def _in_order(tasks: Values) -> list[tuple[str, Any]]:
    """The tasks, each after those that it depends on."""
    ordered: dict[str, Any] = {}
    while len(ordered) < len(tasks):
        left = [key for key in tasks if key not in ordered]
        ready = [key for key in left if ordered.keys() >= set(tasks[key].get("dependentTasks", ())) & tasks.keys()]
        # No compiler makes a circle; whoever wrote one by hand sees its tasks all the same.
        ordered |= {key: tasks[key] for key in ready or left}
    return list(ordered.items())
