"""The steps of a pipeline as its file names them, and their states as a run's task details tell them.

KFP lists the nodes of the Argo workflow that it made of a pipeline, drivers and loops among them, under names that
occur several times, and does not say which is which. But Argo derives a node's id from its place in the workflow, and
the list gives the ids of each node's successors: that is what tells the nodes apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import V2beta1PipelineTaskDetail as Task

# The 32 bit FNV-1a hash.
_OFFSET, _PRIME = 0x811C9DC5, 0x01000193

# No container starts and ends within that many seconds: what took less was found in the cache.
_CACHED_SECONDS = 2

_WORDS = {
    "PENDING": "starting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELING": "stopped",
    "CANCELED": "stopped",
    "PAUSED": "paused",
}


@dataclass(frozen=True)
class Step:
    """A step that a pipeline has: what people call it, and the path of its node below the workflow."""

    label: str
    path: str


@dataclass(frozen=True)
class State:
    """How far a step is: waiting, starting, running, paused, done, reused, failed or stopped."""

    step: Step
    word: str
    started: datetime | None = None
    ended: datetime | None = None

    def seconds(self, now: datetime) -> float | None:
        """How long it took, or has taken until `now`; None before it starts."""
        return max(((self.ended or now) - self.started).total_seconds(), 0) if self.started else None


def steps_of(package: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[Step]:
    """The steps of a compiled pipeline in an order in which they may run, one for each round of a loop.

    `parameters` are the run's, from which loops take their rounds.
    """
    spec = package.get("pipeline_spec", package)
    return list(_below(spec, spec["root"]["dag"], "root", "", parameters))


def _below(
    spec: Mapping[str, Any], dag: Mapping[str, Any], path: str, suffix: str, parameters: Mapping[str, Any]
) -> Iterator[Step]:
    for key, task in _in_order(dag["tasks"]):
        component = spec["components"][task["componentRef"]["name"]]
        place = f"{path}.{key}"
        if "dag" not in component:
            yield Step(task["taskInfo"]["name"] + suffix, place)
        elif "parameterIterator" not in task:
            yield from _below(spec, component["dag"], place, suffix, parameters)
        else:
            source = task["parameterIterator"]["items"]["inputParameter"].rpartition("--")[2]
            for index, item in enumerate(parameters.get(source) or ()):
                # Argo's names for the rounds of a loop and for what KFP puts into each.
                place_of_round = f"{place}.iteration-iterations({index}:{index}).iteration-item"
                name = item.get("name", index) if isinstance(item, Mapping) else item
                yield from _below(spec, component["dag"], place_of_round, f" {name}", parameters)


def _in_order(tasks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tasks, each after those that it depends on."""
    ordered: dict[str, Any] = {}
    while len(ordered) < len(tasks):
        ready = [key for key in tasks if ordered.keys() >= set(tasks[key].get("dependentTasks", ())) - {key}]
        ordered |= {key: tasks[key] for key in ready}
    return list(ordered.items())


def states_of(steps: Sequence[Step], tasks: Sequence[Task]) -> list[State]:
    """The state of each of `steps`, from the task details of a run."""
    before = {child.pod_name: task for task in tasks for child in task.child_tasks or () if child.pod_name}
    workflow = next((each.rpartition("-")[0] for each in before), "")
    skipped = [task for task in tasks if str(task.display_name).startswith("executor") and task.state == "SKIPPED"]
    return [
        _state(
            step,
            driver=before.get(node_id(workflow, f"{workflow}.{step.path}")),
            body=before.get(node_id(workflow, f"{workflow}.{step.path}.executor")),
            skipped=skipped,
        )
        for step in steps
    ]


def _state(step: Step, driver: Task | None, body: Task | None, skipped: Sequence[Task]) -> State:
    """A step is a driver, which looks whether there is something to do, and a body, whose executor does it."""
    if driver is None and body is None:
        return State(step, "waiting")
    started = _time((driver or body).start_time)  # type: ignore[union-attr]
    if body is None or body.state in (None, "SKIPPED"):
        word = _WORDS.get(driver.state, "waiting") if driver else "waiting"
        failed = word in ("failed", "stopped")
        return State(
            step, word if failed else "starting", started, _time(driver.end_time) if driver and failed else None
        )
    ended = _time(body.end_time)
    at = _time(body.start_time)
    if body.state == "SUCCEEDED" and at and ended and (ended - at).total_seconds() < _CACHED_SECONDS:
        times = [_time(task.start_time) for task in skipped]
        if any(at <= each <= ended for each in times if each):
            return State(step, "reused", started, ended)
    return State(step, _WORDS.get(body.state, "waiting"), started, ended)


def node_id(workflow: str, name: str) -> str:
    """The id that Argo gives to the node `name` of a workflow; source: its function NodeID."""
    value = _OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * _PRIME) & 0xFFFFFFFF
    return f"{workflow}-{value}"


def _time(value: datetime | None) -> datetime | None:
    """A time that has come: KFP writes the year 1 for one that has not."""
    if value is None or value.year < 1971:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
