"""The logs of a run's steps, attempt after attempt, as they are or as they come."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError, InputError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.course import Course, read_course
from headstart_pipelines.cluster.follow import courses
from headstart_pipelines.cluster.logs import own_lines, read_log
from headstart_pipelines.cluster.states import ENDED, Attempt, State

if TYPE_CHECKING:
    from headstart_pipelines.cluster.follow import Clock

# Pods that have written something, or may have.
_STARTED = frozenset({"running", "done", "failed", "terminated"})


@dataclass(frozen=True)
class Piece:
    """Lines of one attempt of a step; `heading` says which, where there are several."""

    heading: str | None
    lines: list[str]


def pieces(server: Server, run: Run, label: str | None, *, clock: "Clock | None", own: bool) -> Iterator[Piece]:
    """What the step called `label` wrote, without one what the failed steps wrote, or all where none failed.

    With a `clock`, whatever they write until they end follows. `own` leaves Kubeflow Pipelines' own lines out.

    Raises:
        InputError: there is no such step, or the server does not tell its pods.
        HeadstartError: it has not started, or its log is gone.
    """
    if clock:
        yield from _followed(server, run, label, clock, own=own)
        return
    course = read_course(server, run)
    wanted = _wanted(server, course, label)
    found = [(state, number, attempt) for state in wanted for number, attempt in _numbered(state)]
    if not found:
        raise HeadstartError(_not_started(course, wanted[0] if label else None))
    missing = []
    for state, number, attempt in found:
        said = f"{attempt.word}: {attempt.reason}" if attempt.reason else attempt.word
        heading = f"{state.step.label}, {_name(number, attempt)}: {said}" if len(found) > 1 else None
        try:
            lines = _written(server, course, attempt, own=own)
        except HeadstartError as error:
            missing.append(str(error))
            continue
        yield Piece(heading, lines)
    if missing:
        more = f" So it is with {len(missing) - 1} more." if len(missing) > 1 else ""
        raise HeadstartError(f"{missing[0]}{more}")


def _followed(server: Server, run: Run, label: str | None, clock: "Clock", *, own: bool) -> Iterator[Piece]:
    shown: dict[str, int] = {}
    complete: set[str] = set()
    for course in courses(server, run.run_id, lambda problem, seconds: None, clock):
        wanted = _wanted(server, course, label, everything=True)
        for state in wanted:
            for number, attempt in _numbered(state):
                if attempt.pod in complete:
                    continue
                try:
                    lines = _written(server, course, attempt, own=own)
                except HeadstartError:
                    # Its container may only be starting.
                    if attempt.ended is None:
                        continue
                    raise
                if attempt.ended:
                    complete.add(attempt.pod)
                if new := lines[shown.get(attempt.pod, 0) :]:
                    is_one = label and len(state.attempts) == 1
                    yield Piece(None if is_one else f"{state.step.label}, {_name(number, attempt)}", new)
                shown[attempt.pod] = max(len(lines), shown.get(attempt.pod, 0))
        if label and all(state.word in ENDED for state in wanted):
            break
    if not shown:
        raise HeadstartError(_not_started(course, wanted[0] if label else None))


def _wanted(server: Server, course: Course, label: str | None, *, everything: bool = False) -> list[State]:
    if course.workflow is None:
        raise InputError(
            f"The server at {server.host} does not say in which pods run {course.run.run_id} worked; see its page, "
            f"{server.page(course.run.run_id)}."
        )
    if label is None:
        failed = [state for state in course.states if state.word == "failed"]
        return list(course.states) if everything or not failed else failed
    wanted = [state for state in course.states if state.step.label == label]
    if not wanted:
        labels = ", ".join(state.step.label for state in course.states)
        raise InputError(f"The run {course.run.display_name} has no step {label!r}; it has {labels}.")
    return wanted


def _numbered(state: State) -> list[tuple[int, Attempt]]:
    """The attempts of a step that have started, with their numbers."""
    return [(number, each) for number, each in enumerate(state.attempts, start=1) if each.word in _STARTED]


def _name(number: int, attempt: Attempt) -> str:
    return f"attempt {number}" + (" (its driver)" if attempt.is_driver else "")


def _written(server: Server, course: Course, attempt: Attempt, *, own: bool) -> list[str]:
    lines = read_log(server, course.run.run_id, attempt, course.workflow)
    return own_lines(lines, attempt) if own else lines


def _not_started(course: Course, state: State | None) -> str:
    """Why there is no log to print."""
    if state is None:
        held = next((each for each in course.states if each.reason), None)
        because = f": {held.step.label} is {held.word}, {held.reason}" if held else ""
        return f"The run {course.run.display_name} has started no step yet{because}."
    match state.word:
        case "reused":
            return f"The step {state.step.label!r} was reused: an earlier run did its work, and has its log."
        case "waiting":
            reason = state.reason or "it waits for the steps before it"
        case word if word in ENDED:
            return f"The step {state.step.label!r} was never started: it is {word}{_because(state)}."
        case word:
            reason = f"{word}{_because(state)}"
    return f"The step {state.step.label!r} has not started: {reason}."


def _because(state: State) -> str:
    return f", {state.reason}" if state.reason else ""
