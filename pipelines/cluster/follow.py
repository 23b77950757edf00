"""A run is followed to its end; whoever stops following leaves it going."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError
from headstart.signals import raising
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.logs import attempts, read_log
from headstart_pipelines.cluster.runs import FINAL, steps_of_run
from headstart_pipelines.cluster.steps import State, Step, states_of
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

    def update(self, state: str, steps: Sequence[State], now: datetime) -> None:
        """Takes the run's state and its steps'."""

    def waiting(self, problem: str, seconds: float) -> None:
        """Takes why the server is asked again only in so many seconds."""


@dataclass(frozen=True)
class Clock:
    """Time as it passes; tests have another one."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Failure:
    """The step that a run failed of, why, and the end of what it wrote."""

    step: str
    reason: str
    tail: tuple[str, ...]


def follow(server: Server, run_id: str, name: str, watch: Watch, clock: Clock) -> Run:
    """Shows the course of a run, which has an id and a name, until it ends; returns it as it ended.

    Raises:
        DetachedError: interrupted; the run goes on.
        HeadstartError: the server refuses to answer, or has not answered for long; the run goes on.
    """
    again = f"`headstart runs {run_id} --wait` follows it again"
    try:
        with raising(signal.SIGINT, KeyboardInterrupt):
            return _follow(server, run_id, watch, clock)
    except KeyboardInterrupt:
        raise DetachedError(
            f"no longer following; the run {name} goes on. {again}, `headstart terminate {run_id}` stops it."
        ) from None
    except HeadstartError as error:
        raise HeadstartError(f"{error} The run {name} goes on; {again}.") from None


def _follow(server: Server, run_id: str, watch: Watch, clock: Clock) -> Run:
    steps: list[Step] | None = None
    failing_since: datetime | None = None
    wait = _POLL_SECONDS
    while True:
        try:
            run = server.runs.run_service_get_run(run_id)
            if steps is None:
                steps = steps_of_run(server, run)
        except UnansweredError as error:
            failing_since = failing_since or clock.now()
            if (clock.now() - failing_since).total_seconds() >= _PATIENCE_SECONDS:
                raise
            watch.waiting(str(error), wait)
            clock.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            continue
        failing_since, wait = None, _POLL_SECONDS
        watch.update(run.state or "PENDING", look(steps, run), clock.now())
        if run.state in FINAL:
            return run
        clock.sleep(_POLL_SECONDS)


def look(steps: Sequence[Step], run: Run) -> list[State]:
    """The states of a run's steps."""
    return states_of(steps, (run.run_details.task_details if run.run_details else None) or ())


def failure(server: Server, run: Run) -> Failure | None:
    """What a failed run failed of; None where no step did."""
    steps = steps_of_run(server, run)
    failed = [state.step for state in look(steps, run) if state.word == "failed"]
    if not failed:
        return None
    try:
        pods = attempts(server, run.run_id, steps)
        last = next((pods[step.label][-1] for step in failed if step.label in pods), None)
        step = next((step.label for step in failed if step.label in pods), failed[0].label)
        if last is None:
            return Failure(step, "no pod of it was started", ())
        return Failure(step, last.message or last.phase.lower(), tuple(read_log(server, run.run_id, last)[-_TAIL:]))
    except HeadstartError as error:
        return Failure(failed[0].label, str(error), ())
