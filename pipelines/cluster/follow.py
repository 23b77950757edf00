"""Following a run to its end; whoever stops following leaves it going."""

import contextlib
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError
from headstart.signals import raising
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.logs import progress_of, read_log
from headstart_pipelines.cluster.run_state import RunState, run_states
from headstart_pipelines.cluster.states import State

if TYPE_CHECKING:
    from headstart_pipelines.cluster.view import RunWatch


class DetachedError(HeadstartError):
    """Somebody stopped following; the run goes on."""

    exit_code = 130


def follow(server: Server, run_id: str, name: str, watch: "RunWatch") -> RunState:
    """Shows the steps of a run, which has an id and a name, until it ends; returns its state then.

    Raises:
        DetachedError: interrupted; the run goes on.
        HeadstartError: the server refuses to answer, or has not answered for long; the run goes on.
    """
    again = f"`headstart runs {run_id} --wait` follows it again"
    try:
        with raising(signal.SIGINT, KeyboardInterrupt):
            for run_state in run_states(server, run_id, watch.waiting):
                watch.update(with_progress(server, run_state), clock.now())
            return run_state
    except KeyboardInterrupt:
        raise DetachedError(
            f"no longer following; the run {name} goes on. {again}, `headstart terminate {run_id}` stops it."
        ) from None
    except HeadstartError as error:
        raise HeadstartError(f"{error} The run {name} goes on; {again}.") from None


def with_progress(server: Server, run_state: RunState) -> RunState:
    """The run with how far the steps at work say that they are."""
    return replace(run_state, states=tuple(_with_progress(server, run_state, state) for state in run_state.states))


def _with_progress(server: Server, run_state: RunState, state: State) -> State:
    if state.word != "running" or not state.attempts:
        return state
    # What becomes of the run does not depend on its steps' words.
    with contextlib.suppress(HeadstartError):
        lines = read_log(server, run_state, state.attempts[-1])
        return replace(state, progress=progress_of(lines))
    return state
