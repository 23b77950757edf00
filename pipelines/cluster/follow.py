"""Following of a run to its end; an interrupt leaves the run going."""

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import replace

from headstart.errors import HeadstartError
from headstart.signals import raising
from headstart.terminal import printable
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.logs import own_lines, progress_of, read_log
from headstart_pipelines.cluster.run_state import RunState, run_states
from headstart_pipelines.cluster.runs import align, retry
from headstart_pipelines.cluster.states import State
from headstart_pipelines.cluster.view import RunWatch
from headstart_pipelines.display import console

# Lines to show of a failed step's log.
_TAIL = 20


class DetachedError(HeadstartError):
    """The user stopped following; the run continues."""

    exit_code = 130


def watch_run(server: Server, run_id: str, name: str, *, retries: int = 0, stderr: bool = False) -> None:
    """Follow a run to its end on standard output, or on standard error if standard output is reserved for JSON.

    Args:
        retries: the number of times that failed steps are started again.

    Raises:
        HeadstartError: the run did not succeed; the message names the cause and how to continue.
        DetachedError: interrupted; the run continues.
    """
    screen = console(stderr=stderr)
    for number in range(retries + 1):
        if number:
            screen.print(
                f"  What failed is started again, from its checkpoint if it has one: retry {number} of {retries}.",
                style="yellow", markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
            align(retry(server, run_id), "retried")
        with RunWatch(screen) as watch:
            ended = follow(server, run_id, name, watch)
        if ended.word != "failed":
            break
    align(ended.run, ended.word)
    if ended.word != "succeeded":
        raise HeadstartError(_ending(server, ended))


def _ending(server: Server, ended: RunState) -> str:
    """Return the message about a run that did not succeed, with the remedy; first print the end of the failed step's
    log."""
    run = ended.run
    if ended.word == "terminated":
        return f"The run {run.display_name} was terminated; `headstart retry {run.run_id}` goes on with it."
    if ended.word == "lost":
        return f"The run {run.display_name} is lost: {ended.reason}. Submit its recipe again."
    failed = next((state for state in ended.states if state.word == "failed"), None)
    if failed is None:
        said = (run.error.message if run.error else None) or (ended.workflow.message if ended.workflow else None)
        because = f": {said}" if said else ""
        return f"The run {run.display_name} failed{because}. Its page is {server.page(run.run_id)}."
    log = f"`headstart logs {run.run_id} '{failed.step.label}'` shows all of its log."
    for attempt in [each for each in failed.attempts if each.word == "failed"][-1:]:
        try:
            lines = own_lines(read_log(server, ended, attempt), attempt)
        except HeadstartError as error:
            log = str(error)
        else:
            if lines:
                _show_tail(failed.step.label, lines[-_TAIL:])
    reason = failed.reason or "no reason is told"
    return (
        f"The run {run.display_name} failed in {failed.step.label!r}: {reason}. {log} When mended, `headstart retry "
        f"{run.run_id}` goes on from there."
    )


def _show_tail(step: str, lines: Sequence[str]) -> None:
    """Print the end of a step's log on standard error, indented."""
    screen = console(stderr=True)
    screen.print(f"\nThe end of the log of {printable(step)}:", markup=False, highlight=False)
    for line in lines:
        screen.print(f"  {printable(line)}", style="dim", markup=False, highlight=False, soft_wrap=True)
    screen.print()


def follow(server: Server, run_id: str, name: str, watch: RunWatch) -> RunState:
    """Show the steps of a run until it ends, and return its final state.

    Raises:
        DetachedError: interrupted; the run continues.
        HeadstartError: the server refuses to answer, or has not answered for a long time; the run continues.
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
    """Add to each running step the progress that it reports in its log."""
    return replace(run_state, states=tuple(_with_progress(server, run_state, state) for state in run_state.states))


def _with_progress(server: Server, run_state: RunState, state: State) -> State:
    if state.word != "running" or not state.attempts:
        return state
    # Progress is for display only, so an error in reading it is ignored.
    with contextlib.suppress(HeadstartError):
        lines = read_log(server, run_state, state.attempts[-1])
        return replace(state, progress=progress_of(lines))
    return state
