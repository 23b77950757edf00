"""Steps of a pipeline, with the names and paths that the compiled file gives them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, or a graph that contains steps: its display name, the path of its node below the workflow,
    its key and task in the compiled pipeline, its component, and the known values of its parameters."""

    label: str
    path: str
    key: str = field(default="", compare=False)
    task: Values = field(default_factory=dict, compare=False, repr=False)
    component: Values = field(default_factory=dict, compare=False, repr=False)
    parameters: Values = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_graph(self) -> bool:
        """True if it is a graph."""
        return "dag" in self.component


def steps_of(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> list[Step]:
    """Return the steps of a compiled pipeline in a possible order of execution, one for each iteration of a loop.

    `parameters` are the run's; loops iterate over their values. For a loop over another step's output, the iterations
    are those with paths in `seen`, the paths of the workflow's nodes.
    """
    return [step for step in steps_and_graphs(package, parameters, seen) if not step.is_graph]


def steps_and_graphs(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> Iterator[Step]:
    """Yield the steps in the order of `steps_of`, each after the graphs that contain it: groups, loops and
    iterations."""
    spec = package.get("pipeline_spec", package)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
    root = Step("", "root", component=spec["root"], parameters={**defaults, **parameters})
    yield root
    yield from _below(spec["components"], root, "", seen)


def _below(components: Values, graph: Step, suffix: str, seen: Collection[str]) -> Iterator[Step]:
    """Yield the steps and graphs in a graph, at any depth; `suffix` distinguishes the iterations of enclosing loops."""
    for key, task in _in_order(graph.component["dag"]["tasks"]):
        step = Step(
            label=task.get("taskInfo", {}).get("name", key) + suffix,
            path=f"{_enclosing(graph.path, task)}.{key}",
            key=key,
            task=task,
            component=components.get(task["componentRef"]["name"], {}),
            parameters=_passed(task, graph.parameters),
        )
        yield step
        if step.is_graph and "parameterIterator" not in task:
            yield from _below(components, step, suffix, seen)
        elif step.is_graph:
            for index, item in _rounds(step, seen):
                name = item.get("name", index) if isinstance(item, Mapping) else item
                bound = {**step.parameters, task["parameterIterator"]["itemInput"]: item}
                path = f"{_round(step.path, index)}.iteration-item"
                turn = replace(step, path=path, parameters=bound)
                yield turn
                yield from _below(components, turn, f"{suffix} {name}", seen)


def _enclosing(path: str, task: Values) -> str:
    """Return the path of a task's parent node. KFP makes an exit task a hook of the group that it follows."""
    follows = task.get("dependentTasks", ())
    if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED" and follows:
        return f"{path}.{follows[-1]}.onExit"
    return path


def _passed(task: Values, scope: Values) -> dict[str, Any]:
    """Return the parameters that a task passes on, except those that are known only at run time."""
    passed = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            passed[name] = source["runtimeValue"].get("constant")
        elif source.get("componentInputParameter") in scope and "parameterExpressionSelector" not in source:
            passed[name] = scope[source["componentInputParameter"]]
    return passed


def _rounds(loop: Step, seen: Collection[str]) -> Iterator[tuple[int, Any]]:
    """Yield the iterations of a loop: number and item; an item that is unknown beforehand is replaced by its number."""
    items = loop.task["parameterIterator"]["items"]
    values = json.loads(items["raw"]) if "raw" in items else loop.parameters.get(items["inputParameter"])
    if isinstance(values, list):
        yield from enumerate(values)
        return
    index = 0
    while _round(loop.path, index) in seen:
        yield index, index
        index += 1


def _round(place: str, index: int) -> str:
    """Return Argo's path for an iteration of the loop at `place`."""
    return f"{place}.iteration-iterations({index}:{index})"


def _in_order(tasks: Values) -> list[tuple[str, Any]]:
    """Return the tasks, each after those that it depends on."""
    ordered: dict[str, Any] = {}
    while len(ordered) < len(tasks):
        left = [key for key in tasks if key not in ordered]
        ready = [key for key in left if ordered.keys() >= set(tasks[key].get("dependentTasks", ())) & tasks.keys()]
        # No compiler creates a cycle; one written by hand is still listed.
        ordered |= {key: tasks[key] for key in ready or left}
    return list(ordered.items())
