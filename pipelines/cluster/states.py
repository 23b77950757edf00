"""States of a run's steps, in words, with the reason and every attempt.

The words of an unfinished step: waiting, queued, no image, no secret, no config, starting, running, retrying. Those of
a finished one are `ENDED`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kfp_server_api import V2beta1PipelineTaskDetail as Task

from headstart_pipelines.cluster.steps import Step
from headstart_pipelines.cluster.workflow import Node, Workflow, located

# The states of steps that have ended.
ENDED = frozenset({"done", "reused", "skipped", "omitted", "failed", "terminated", "lost", "unknown", "not run"})

# Kubernetes' messages while a pod is being created.
_USUAL = ("ContainerCreating", "PodInitializing")
_NO_IMAGE = re.compile(r"(Init:)?(ErrImage\w*|ImagePullBackOff|InvalidImageName|RegistryUnavailable)\b")
_NO_CONFIG = re.compile(r"CreateContainerConfigError\b")

# Patterns of failures in messages of Kubernetes and Argo, with the text that is shown first.
_CAUSES = (
    (re.compile(r"OOMKilled"), "out of memory"),
    (re.compile(r"longer than the specified deadline"), "its deadline passed"),
)


@dataclass(frozen=True)
class Progress:
    """Progress that a step reports: `done` of `total`, with a `note`; `seconds_left` is None while unknown."""

    label: str
    done: int
    total: int
    note: str
    seconds_left: float | None


@dataclass(frozen=True)
class Attempt:
    """A pod for a step, or for its driver, which decides whether the step has to run."""

    pod: str
    word: str
    reason: str | None
    started: datetime | None
    ended: datetime | None
    is_driver: bool = False
    log_key: str | None = None


@dataclass(frozen=True)
class State:
    """State of a step; `reason` explains the state, `progress` is reported by the step itself."""

    step: Step
    word: str
    reason: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None

    def seconds(self, now: datetime) -> float | None:
        """Return the seconds that the step took, or has taken until `now`; None before it starts."""
        return max(((self.ended or now) - self.started).total_seconds(), 0) if self.started else None


def states_of(steps: Sequence[Step], workflow: Workflow, *, terminated: datetime | None = None) -> list[State]:
    """Return the state of each of `steps`; `terminated` is the time when the run was terminated, or None."""
    return [_Reading(workflow, terminated).state(step) for step in steps]


def concluded(states: Sequence[State], run: str, *, is_current: bool = True) -> list[State]:
    """Replace waiting and running states in a run that is over.

    `run` is the run's final state. `is_current` is False if the steps' states were reported before its end; after a
    successful run the steps count as done all the same.
    """
    return [state if state.word in ENDED else _conclude(state, run, is_current) for state in states]


def _conclude(state: State, run: str, is_current: bool) -> State:
    if run == "succeeded":
        return replace(state, word="done", reason=None, started=None)
    if state.started is None and is_current:
        return replace(state, word="not run", reason=None)
    if run == "lost":
        return replace(state, word="lost", reason="its workflow was deleted", started=None)
    return replace(state, word="unknown", reason="the server does not tell how it ended", started=None)


@dataclass(frozen=True)
class _Reading:
    """States of steps, read from one workflow."""

    workflow: Workflow
    terminated: datetime | None

    def state(self, step: Step) -> State:
        """Return a step's state from its driver, which decides whether it has to run, and its body with the
        executor."""
        if above := self._held_above(step):
            return above
        body, _ = self.workflow.at(step.path)
        driver, driver_pods = self.workflow.at(f"{step.path}-driver")
        executor, pods = self.workflow.at(f"{step.path}.executor")
        if executor is None:
            # An importer is a pod without a driver.
            pods = [each for each in self.workflow.at(step.path)[1] if each.kind == "Pod"]
            executor = body if pods or (body and body.kind == "Pod") else None
        attempts = self._attempts(step.path)
        if executor and executor.kind == "Skipped":
            return State(step, "reused", ended=executor.ended)
        if executor:
            return self._of_pods(step, executor, pods, attempts)
        drivers = driver_pods or ([driver] if driver else [])
        if drivers and drivers[-1].phase in ("Failed", "Error") and driver and driver.phase != "Running":
            word, reason = self._word(drivers[-1])
            return State(step, word, f"its driver: {reason}", drivers[-1].started, drivers[-1].ended, attempts)
        if body and body.kind == "Skipped":
            return self._skipped(step, body)
        if driver and driver.kind == "Skipped":
            return self._skipped(step, driver)
        if body and body.phase == "Succeeded":
            return State(step, "done", None, body.started, body.ended, attempts)
        if drivers:
            word, reason = self._word(drivers[-1])
            is_held = word not in ("done", "running", "failed", "terminated")
            return State(step, word if is_held else "starting", reason, drivers[0].started, None, attempts)
        return State(step, "waiting")

    def _of_pods(self, step: Step, executor: Node, pods: Sequence[Node], attempts: tuple[Attempt, ...]) -> State:
        latest = pods[-1] if pods else executor
        first = pods[0] if pods else executor
        word, reason = self._word(latest)
        if executor.kind == "Retry" and word == "failed" and executor.phase in ("Running", "Pending"):
            return State(step, "retrying", reason, first.started, None, attempts)
        ended = latest.ended if word in ENDED else None
        return State(step, word, reason, first.started, ended, attempts)

    def _held_above(self, step: Step) -> State | None:
        """Return the state of a step in a group that has not started or never will, from the group's
        driver; else None."""
        segments = step.path.split(".")
        for end in range(1, len(segments)):
            path = ".".join(segments[:end])
            node, _ = self.workflow.at(path)
            if node and node.kind != "Skipped":
                continue
            # All iterations of a loop share one driver.
            is_round = segments[end - 1].startswith("iteration-iterations(")
            group = ".".join(segments[: end - 1]) if is_round else path
            driver_path = f"{group}.iteration-driver" if is_round else f"{path}-driver"
            driver, pods = self.workflow.at(driver_path)
            latest = pods[-1] if pods else driver
            if latest is None or latest.kind == "Skipped":
                if node:
                    return self._skipped(step, node)
                continue
            word, reason = self._word(latest)
            said = f"the driver of {group.rpartition('.')[2]}: {reason}" if reason else None
            if word in ("failed", "terminated") and not (driver and driver.phase == "Running"):
                return State(step, word, said, None, latest.ended, self._driver_attempts(driver_path))
            return self._skipped(step, node) if node else State(step, "waiting", said)
        return None

    def _skipped(self, step: Step, node: Node) -> State:
        if node.phase == "Omitted":
            return State(step, "omitted", "a step that it needs did not succeed", ended=node.ended)
        return State(step, "skipped", "its condition did not hold", ended=node.ended)

    def _attempts(self, path: str) -> tuple[Attempt, ...]:
        """Return every pod of a step, and the failed ones of its driver, in order of time."""
        pods = [node for place in (f"{path}.executor", path) for node in self.workflow.paths.get(place, ())]
        attempts = [self._attempt(node) for node in pods if node.kind == "Pod"]
        drivers = self._driver_attempts(f"{path}-driver")
        return tuple(sorted([*attempts, *drivers], key=lambda each: (each.started is None, each.started)))

    def _driver_attempts(self, path: str) -> tuple[Attempt, ...]:
        pods = [node for node in self.workflow.paths.get(path, ()) if node.kind == "Pod"]
        return tuple(self._attempt(node, is_driver=True) for node in pods if node.phase in ("Failed", "Error"))

    def _attempt(self, node: Node, *, is_driver: bool = False) -> Attempt:
        return Attempt(node.pod, *self._word(node), node.started, node.ended, is_driver, node.log_key)

    def _word(self, pod: Node) -> tuple[str, str | None]:
        """Return a pod's state in one word, and the reason if it is held up or failed."""
        match pod.phase:
            case "Succeeded":
                return "done", None
            case "Failed" | "Error":
                if self.terminated and ((pod.ended and pod.ended >= self.terminated) or "exit code 143" in pod.message):
                    return "terminated", _reason(pod)
                return "failed", _reason(pod)
            case "Running":
                return "running", None
            case "Pending":
                return _pending(pod)
        return "starting", pod.message or None


def _pending(pod: Node) -> tuple[str, str | None]:
    if _NO_IMAGE.match(pod.message):
        return "no image", pod.message
    if _NO_CONFIG.match(pod.message):
        return "no config" if "configmap" in pod.message.lower() else "no secret", pod.message
    if pod.message.startswith(_USUAL) or not (pod.message or pod.queue):
        return "starting", None
    if pod.message:
        return "queued" if pod.message.startswith("Unschedulable") else "starting", pod.message
    return "queued", f"it waits for Kueue's queue {pod.queue} or for a node"


def _reason(pod: Node) -> str:
    """Return the reason why a pod failed: known causes in plain words first, then Kubernetes' own message."""
    said = pod.message.removeprefix("main: ") or pod.phase.lower()
    cause = next((text for pattern, text in _CAUSES if pattern.search(said)), None)
    return f"{cause}: {said}" if cause else said


# States from a run's task details, used if the workflow is not available.


# Constants of the 32-bit FNV-1a hash.
_OFFSET, _PRIME = 0x811C9DC5, 0x01000193

# No container starts and ends in less than this; a shorter task was found in the cache.
_CACHED_SECONDS = 2

_TASK_WORDS = {"PENDING": "starting", "RUNNING": "running", "SUCCEEDED": "done", "FAILED": "failed"}


def states_of_tasks(steps: Sequence[Step], tasks: Sequence[Task]) -> list[State]:
    """Return the state of each of `steps` from a run's task details, which have no reasons and may be outdated.

    KFP lists the workflow's nodes without their ids, under names that are not unique. But it gives the ids of each
    node's successors, and Argo derives an id from a node's name, which identifies the nodes.
    """
    before = {child.pod_name: task for task in tasks for child in task.child_tasks or () if child.pod_name}
    workflow = next((each.rpartition("-")[0] for each in before), "")
    skipped = [
        _time(task.start_time)
        for task in tasks
        if str(task.display_name).startswith("executor") and task.state == "SKIPPED"
    ]
    return [_TaskReading(workflow, before, skipped).state(step) for step in steps]


@dataclass(frozen=True)
class _TaskReading:
    workflow: str
    before: dict[str, Task]
    skipped: list[datetime | None]

    def state(self, step: Step) -> State:
        """Return the state from the driver, a predecessor of the step, and the body, a predecessor of its executor."""
        base, current = located(self.workflow, step.path, self._latest)
        driver, body = self._before(base), self._before(f"{current}.executor")
        if body is None or body.state in (None, "SKIPPED"):
            if driver is None:
                return State(step, "waiting")
            return State(step, "failed" if driver.state == "FAILED" else "starting", None, _time(driver.start_time))
        started, ended = _time(body.start_time), _time(body.end_time)
        word = _TASK_WORDS.get(body.state, "waiting")
        if word == "done" and started and ended and (ended - started).total_seconds() < _CACHED_SECONDS:
            word = "reused" if any(started <= each <= ended for each in self.skipped if each) else word
        return State(step, word, None, started, ended)

    def _latest(self, base: str) -> str:
        """Return the name of a node's latest attempt; its own name if it has none."""
        number = 0
        while self._before(f"{base}({number})"):
            number += 1
        return f"{base}({number - 1})" if number else base

    def _before(self, name: str) -> Task | None:
        return self.before.get(node_id(self.workflow, name))


def node_id(workflow: str, name: str) -> str:
    """Return the id that Argo gives to the node `name` of a workflow; source: its function NodeID."""
    if name == workflow:
        return name
    value = _OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * _PRIME) & 0xFFFFFFFF
    return f"{workflow}-{value}"


def _time(value: datetime | None) -> datetime | None:
    """Return a time with its zone; None for a missing one, which KFP writes as the year 1."""
    if value is None or value.year < 1971:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
