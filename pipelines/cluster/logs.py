"""Logs of a run's steps: location of a pod's log, filtering of KFP's lines, reported progress."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError, InputError
from headstart.terminal import printable
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.run_state import RunState, read_run_state, run_states
from headstart_pipelines.cluster.states import ENDED, Attempt, Progress, State
from headstart_pipelines.cluster.transport import NotFoundError

# A step's log also contains lines of KFP's launcher, written in Go, of Argo, and of KFP's executor, whose prefix is
# that of Python's logging in a step.
_LAUNCHER = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.-]+:\d+\] ")
_ARGO = re.compile(r"^time=\S+ level=\S+ .*\bargo=true\b")
_LOGGED = re.compile(r"^\[KFP Executor (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (\w+)\]: (.*)")
_EXECUTOR = (
    "Looking for component `", 'Loading KFP component "', "Got executor_input:", "Wrote executor output file to ",
    # Lines of boto3, written if logging is configured in this way.
    "Found credentials in ", "Found endpoint for ",
)  # fmt: skip

_PROGRESS = re.compile(r"^(.*\S) (\d+)/(\d+)(?: (.*))?$")

# States of pods that have or may have written something.
_STARTED = frozenset({"running", "done", "failed", "terminated"})


def log_parts(
    server: Server, run: Run, label: str | None, *, follow: bool, own: bool
) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the log of the step `label`; without one, the logs of the failed steps, or of all if none failed.

    Yields headings and lines; a heading names the attempt that wrote the lines, if there are several, and is None
    otherwise. With `follow`, lines are yielded until the steps end. `own` omits Kubeflow Pipelines' lines.

    Raises:
        InputError: there is no such step, or the server does not report its pods.
        HeadstartError: it has not started, or its log is gone.
    """
    if follow:
        yield from _followed(server, run, label, own=own)
        return
    run_state = read_run_state(server, run)
    wanted = _wanted(server, run_state, label)
    found = [(state, number, attempt) for state in wanted for number, attempt in _numbered(state)]
    if not found:
        raise HeadstartError(_not_started(run_state, wanted[0] if label else None))
    missing = []
    for state, number, attempt in found:
        said = f"{attempt.word}: {attempt.reason}" if attempt.reason else attempt.word
        heading = f"{state.step.label}, {_name(number, attempt)}: {said}" if len(found) > 1 else None
        try:
            lines = _written(server, run_state, attempt, own=own)
        except HeadstartError as error:
            missing.append(str(error))
            continue
        yield heading, lines
    if missing:
        more = f" So it is with {len(missing) - 1} more." if len(missing) > 1 else ""
        raise HeadstartError(f"{missing[0]}{more}")


def _followed(server: Server, run: Run, label: str | None, *, own: bool) -> Iterator[tuple[str | None, list[str]]]:
    shown: dict[str, int] = {}
    complete: set[str] = set()
    for run_state in run_states(server, run.run_id, lambda problem, seconds: None):
        wanted = _wanted(server, run_state, label, everything=True)
        for state in wanted:
            for number, attempt in _numbered(state):
                if attempt.pod in complete:
                    continue
                try:
                    lines = _written(server, run_state, attempt, own=own)
                except HeadstartError:
                    # The container may still be starting.
                    if attempt.ended is None:
                        continue
                    raise
                if attempt.ended:
                    complete.add(attempt.pod)
                if new := lines[shown.get(attempt.pod, 0) :]:
                    is_one = label and len(state.attempts) == 1
                    yield None if is_one else f"{state.step.label}, {_name(number, attempt)}", new
                shown[attempt.pod] = max(len(lines), shown.get(attempt.pod, 0))
        if label and all(state.word in ENDED for state in wanted):
            break
    if not shown:
        raise HeadstartError(_not_started(run_state, wanted[0] if label else None))


def _wanted(server: Server, run_state: RunState, label: str | None, *, everything: bool = False) -> list[State]:
    if run_state.workflow is None:
        raise InputError(
            f"The server at {server.host} does not say in which pods run {run_state.run.run_id} worked; see its page, "
            f"{server.page(run_state.run.run_id)}."
        )
    if label is None:
        failed = [state for state in run_state.states if state.word == "failed"]
        return list(run_state.states) if everything or not failed else failed
    wanted = [state for state in run_state.states if state.step.label == label]
    if not wanted:
        labels = ", ".join(state.step.label for state in run_state.states)
        raise InputError(f"The run {run_state.run.display_name} has no step {label!r}; it has {labels}.")
    return wanted


def _numbered(state: State) -> list[tuple[int, Attempt]]:
    """Return the attempts of a step that have started, with their numbers."""
    return [(number, each) for number, each in enumerate(state.attempts, start=1) if each.word in _STARTED]


def _name(number: int, attempt: Attempt) -> str:
    return f"attempt {number}" + (" (its driver)" if attempt.is_driver else "")


def _written(server: Server, run_state: RunState, attempt: Attempt, *, own: bool) -> list[str]:
    lines = read_log(server, run_state, attempt)
    return own_lines(lines, attempt) if own else lines


def _not_started(run_state: RunState, state: State | None) -> str:
    """Return the reason why there is no log to print."""
    if state is None:
        held = next((each for each in run_state.states if each.reason), None)
        because = f": {held.step.label} is {held.word}, {held.reason}" if held else ""
        return f"The run {run_state.run.display_name} has started no step yet{because}."
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


def read_log(server: Server, run_state: RunState, attempt: Attempt) -> list[str]:
    """Return the lines that a pod of the run wrote, including KFP's.

    Raises:
        HeadstartError: the log is not available anywhere.
    """
    said = ""
    for path, query in _places(server, run_state, attempt):
        try:
            lines = _lines(server.read(path, query), whole=attempt.ended is None)
        except NotFoundError:
            continue
        except HeadstartError as error:
            said = said or str(error)
            continue
        # An error after the status was sent is the last line, or the only one.
        if lines and lines[-1].startswith('{"error_message"'):
            said = said or _message(lines.pop())
            if not lines:
                continue
        if not (lines and lines[0].lstrip().startswith("<")):
            return lines
    raise HeadstartError(_gone(server, run_state, attempt, said))


def _places(server: Server, run_state: RunState, attempt: Attempt) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the endpoints that may have a pod's log: the API's and, if the address is that of KFP's page, the page
    server's."""
    run_id, workflow = run_state.run.run_id, run_state.workflow
    yield f"/apis/v1alpha1/runs/{run_id}/nodes/{attempt.pod}/log", {}
    query = {"podname": attempt.pod, "runid": run_id, "createdat": f"{attempt.started:%Y-%m-%d}"}
    namespace = server.namespace or (workflow.namespace if workflow else None)
    if namespace:
        query["podnamespace"] = namespace
    yield "/k8s/pod/logs", query
    if workflow and workflow.bucket and attempt.log_key:
        # The page's server reads any named object from KFP's store.
        query = {"source": "minio", "bucket": workflow.bucket, "key": attempt.log_key}
        yield "/artifacts/get", {**query, **({"namespace": namespace} if namespace else {})}


def _gone(server: Server, run_state: RunState, attempt: Attempt, said: str) -> str:
    """Return the message that a pod's log is not available, and where it may be archived."""
    workflow = run_state.workflow
    why, told, kept = "a log outlives its pod only where the cluster archives logs", "", ""
    if workflow and workflow.bucket and attempt.log_key:
        kept = f" It is kept in KFP's store as {workflow.bucket}/{attempt.log_key}."
        if workflow.is_packed:
            why = "of a workflow as large as this one, the server does not know where its logs are kept"
    elif said:
        told = f" (it says: {said[:200]})"
    return (
        f"The log of {attempt.pod} is not there any more, or {server.host} does not show it{told}: {why}.{kept} The "
        f"run's page is {server.page(run_state.run.run_id)}."
    )


def own_lines(lines: Sequence[str], attempt: Attempt) -> list[str]:
    """Return the lines that a step wrote itself; logged ones begin with the time.

    All lines of a driver are kept, because it is KFP's own. For a failed step, the launcher's errors are kept as part
    of the reason.
    """
    if attempt.is_driver:
        return list(lines)
    failed = attempt.word == "failed"
    kept = []
    block_end: str | None = None
    for line in lines:
        if block_end is not None:
            # Indented JSON ends at the indentation of its first line.
            block_end = None if line == block_end else block_end
            continue
        if launcher := _LAUNCHER.match(line):
            if failed and launcher[1] in "EF":
                kept.append(line)
            elif line.endswith("{"):
                block_end = "}"
        elif logged := _LOGGED.match(line):
            at, level, text = logged.groups()
            if text.startswith(_EXECUTOR):
                block_end = None if text != "Got executor_input:" else "}"
            else:
                kept.append(f"{at[11:]} {'' if level == 'INFO' else level + ' '}{text}")
        elif not _ARGO.match(line):
            kept.append(line)
    return kept


def progress_of(lines: Sequence[str]) -> Progress | None:
    """Return the last progress that a step reports in its log; None if it reports none."""
    first: tuple[datetime, int] | None = None
    last: Progress | None = None
    for line in lines:
        if not (logged := _LOGGED.match(line)) or not (found := _PROGRESS.match(logged[3])):
            continue
        at, (label, done, total) = datetime.fromisoformat(logged[1]), (found[1], int(found[2]), int(found[3]))
        if first is None or last is None or (last.label, last.total) != (label, total) or done <= last.done:
            first = (at, done)
        passed, made = (at - first[0]).total_seconds(), done - first[1]
        left = passed / made * (total - done) if made > 0 and done < total else None
        last = Progress(label, done, total, found[4] or "", left)
    return last


def _message(line: str) -> str:
    try:
        answer: Any = json.loads(line)
    except ValueError:
        return ""
    return " ".join(str(answer.get("error_message", "")).split()) if isinstance(answer, dict) else ""


def _lines(body: bytes, *, whole: bool) -> list[str]:
    """Return the lines of a log; with `whole`, without an incomplete last line."""
    text = body.decode("utf-8", "replace")
    told = text[: text.rfind("\n") + 1] if whole else text
    return [printable(line, keep="\t") for line in told.splitlines()]
