"""The steps of a pipeline under the names that its file gives them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A step that a pipeline has: what people call it, and the path of its node below the workflow's own."""

    label: str
    path: str


def steps_of(
    package: Mapping[str, Any], parameters: Mapping[str, Any], seen: Collection[str] = frozenset()
) -> list[Step]:
    """The steps of a compiled pipeline in an order in which they may run, one for each round of a loop.

    `parameters` are the run's, from which loops take their rounds. A loop over what another step puts out has the
    rounds whose paths are among `seen`, those of the workflow's nodes.
    """
    spec = package.get("pipeline_spec", package)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
    return list(_below(spec, spec["root"]["dag"], "root", "", {**defaults, **parameters}, seen))


def _below(
    spec: Mapping[str, Any],
    dag: Mapping[str, Any],
    path: str,
    suffix: str,
    scope: Mapping[str, Any],
    seen: Collection[str],
) -> Iterator[Step]:
    """The steps of one graph; `scope` holds the values of its parameters as far as they are known beforehand."""
    for key, task in _in_order(dag["tasks"]):
        component = spec["components"].get(task["componentRef"]["name"], {})
        place = f"{_enclosing(path, task)}.{key}"
        inner = _passed(task, scope)
        if "dag" not in component:
            yield Step(task.get("taskInfo", {}).get("name", key) + suffix, place)
        elif "parameterIterator" not in task:
            yield from _below(spec, component["dag"], place, suffix, inner, seen)
        else:
            for index, item in _rounds(task["parameterIterator"], inner, place, seen):
                name = item.get("name", index) if isinstance(item, Mapping) else item
                bound = {**inner, task["parameterIterator"]["itemInput"]: item}
                place_of_round = f"{_round(place, index)}.iteration-item"
                yield from _below(spec, component["dag"], place_of_round, f"{suffix} {name}", bound, seen)


def _enclosing(path: str, task: Mapping[str, Any]) -> str:
    """Where a task's node hangs. KFP makes an exit task a hook of the group that it follows."""
    follows = task.get("dependentTasks", ())
    if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED" and follows:
        return f"{path}.{follows[-1]}.onExit"
    return path


def _passed(task: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a task hands on, without those that only another step will tell."""
    passed = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            passed[name] = source["runtimeValue"].get("constant")
        elif source.get("componentInputParameter") in scope and "parameterExpressionSelector" not in source:
            passed[name] = scope[source["componentInputParameter"]]
    return passed


def _rounds(
    iterator: Mapping[str, Any], scope: Mapping[str, Any], place: str, seen: Collection[str]
) -> Iterator[tuple[int, Any]]:
    """The rounds of a loop: their numbers and items; an item that nobody tells beforehand is its number."""
    items = iterator["items"]
    values = json.loads(items["raw"]) if "raw" in items else scope.get(items["inputParameter"])
    if isinstance(values, list):
        yield from enumerate(values)
        return
    index = 0
    while _round(place, index) in seen:
        yield index, index
        index += 1


def _round(place: str, index: int) -> str:
    """Argo's path for a round of the loop at `place`."""
    return f"{place}.iteration-iterations({index}:{index})"


def _in_order(tasks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tasks, each after those that it depends on."""
    ordered: dict[str, Any] = {}
    while len(ordered) < len(tasks):
        left = [key for key in tasks if key not in ordered]
        ready = [key for key in left if ordered.keys() >= set(tasks[key].get("dependentTasks", ())) & tasks.keys()]
        # No compiler makes a circle; whoever wrote one by hand sees its tasks all the same.
        ordered |= {key: tasks[key] for key in ready or left}
    return list(ordered.items())
