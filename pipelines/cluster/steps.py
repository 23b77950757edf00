"""The steps of a pipeline under the names that its file gives them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, or a graph that holds steps: what people call it, and the path of its node below the
    workflow's own; its key and task in the compiled pipeline, its component, and what is known of its parameters."""

    label: str
    path: str
    key: str = field(default="", compare=False)
    task: Values = field(default_factory=dict, compare=False, repr=False)
    component: Values = field(default_factory=dict, compare=False, repr=False)
    parameters: Values = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_graph(self) -> bool:
        """Whether it holds steps, and is none itself."""
        return "dag" in self.component


def steps_of(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> list[Step]:
    """The steps of a compiled pipeline in an order in which they may run, one for each round of a loop.

    `parameters` are the run's, from which loops take their rounds. A loop over what another step puts out has the
    rounds whose paths are among `seen`, those of the workflow's nodes.
    """
    return [step for step in steps_and_graphs(package, parameters, seen) if not step.is_graph]


def steps_and_graphs(package: Values, parameters: Values, seen: Collection[str] = frozenset()) -> Iterator[Step]:
    """The steps in the order of `steps_of`, and before each the graphs that hold it: loops and their rounds, too."""
    spec = package.get("pipeline_spec", package)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
    root = Step("", "root", component=spec["root"], parameters={**defaults, **parameters})
    yield root
    yield from _below(spec["components"], root, "", seen)


def _below(components: Values, graph: Step, suffix: str, seen: Collection[str]) -> Iterator[Step]:
    """The steps and graphs in a graph, whatever deep; `suffix` tells apart the rounds of loops that they are in."""
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


def _rounds(loop: Step, seen: Collection[str]) -> Iterator[tuple[int, Any]]:
    """The rounds of a loop: their numbers and items; an item that nobody tells beforehand is its number."""
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
