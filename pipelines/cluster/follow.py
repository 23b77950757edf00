"""A run is followed to its end; whoever stops following leaves it going."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from headstart.errors import HeadstartError
from headstart.signals import raising
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.course import Course, read_course
from headstart_pipelines.cluster.logs import own_lines, progress_of, read_log
from headstart_pipelines.cluster.states import State
from headstart_pipelines.cluster.transport import UnansweredError

_POLL_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 60.0
# An API server that is upgraded or moved to another node is back by then.
_PATIENCE_SECONDS = 900.0
_TAIL = 20


class DetachedError(HeadstartError):
    """Somebody stopped following; the run goes on."""

    exit_code = 130


class Watch(Protocol):
    """Who sees the course of a run."""

    def update(self, course: Course, now: datetime) -> None:
        """Takes what has become of the run."""

    def waiting(self, problem: str, seconds: float) -> None:
        """Takes why the server is asked again only in so many seconds."""


@dataclass(frozen=True)
class Clock:
    """Time as it passes; tests have another one."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Failure:
    """The step that a run failed of, why, and the end of what it wrote; or, as `missing`, why nobody has that."""

    step: str
    reason: str
    tail: tuple[str, ...] = ()
    missing: str | None = None


def follow(server: Server, run_id: str, name: str, watch: Watch, clock: Clock) -> Course:
    """Shows the course of a run, which has an id and a name, until it ends; returns it as it ended.

    Raises:
        DetachedError: interrupted; the run goes on.
        HeadstartError: the server refuses to answer, or has not answered for long; the run goes on.
    """
    again = f"`headstart runs {run_id} --wait` follows it again"
    try:
        with raising(signal.SIGINT, KeyboardInterrupt):
            for course in courses(server, run_id, watch.waiting, clock):
                watch.update(with_progress(server, course), clock.now())
            return course
    except KeyboardInterrupt:
        raise DetachedError(
            f"no longer following; the run {name} goes on. {again}, `headstart terminate {run_id}` stops it."
        ) from None
    except HeadstartError as error:
        raise HeadstartError(f"{error} The run {name} goes on; {again}.") from None


def courses(server: Server, run_id: str, waiting: Callable[[str, float], None], clock: Clock) -> Iterator[Course]:
    """The course of a run, again and again until it is over; a server that is away is asked again for a while."""
    failing_since: datetime | None = None
    wait = _POLL_SECONDS
    while True:
        try:
            course = read_course(server, server.runs.run_service_get_run(run_id))
        except UnansweredError as error:
            failing_since = failing_since or clock.now()
            if (clock.now() - failing_since).total_seconds() >= _PATIENCE_SECONDS:
                raise
            waiting(str(error), wait)
            clock.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            continue
        failing_since, wait = None, _POLL_SECONDS
        yield course
        if course.is_over:
            return
        clock.sleep(_POLL_SECONDS)


def with_progress(server: Server, course: Course) -> Course:
    """The course with how far the steps at work say that they are."""
    return replace(course, states=tuple(_with_progress(server, course, state) for state in course.states))


def _with_progress(server: Server, course: Course, state: State) -> State:
    if state.word != "running" or not state.attempts:
        return state
    # The run's course does not depend on its steps' words.
    with contextlib.suppress(HeadstartError):
        lines = read_log(server, course.run.run_id, state.attempts[-1], course.workflow)
        return replace(state, progress=progress_of(lines))
    return state


def failure(server: Server, course: Course) -> Failure | None:
    """What a failed run failed of; None where no step did."""
    failed = next((state for state in course.states if state.word == "failed"), None)
    if failed is None:
        return None
    reason = failed.reason or "no reason is told"
    attempt = next((each for each in reversed(failed.attempts) if each.word == "failed"), None)
    if attempt is None:
        return Failure(failed.step.label, reason)
    try:
        lines = own_lines(read_log(server, course.run.run_id, attempt, course.workflow), attempt)
    except HeadstartError as error:
        return Failure(failed.step.label, reason, missing=str(error))
    return Failure(failed.step.label, reason, tuple(lines[-_TAIL:]))
