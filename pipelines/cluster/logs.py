"""What the steps of a run wrote, and how far they say that they are."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from headstart.errors import HeadstartError
from headstart.terminal import printable
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.states import Attempt, Progress
from headstart_pipelines.cluster.transport import NotFoundError
from headstart_pipelines.cluster.workflow import Workflow

# Beside a step's own lines, its log holds those of KFP's launcher, written in Go, of Argo, and of KFP's executor, whose
# prefix Python's logging has in a step.
_LAUNCHER = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.-]+:\d+\] ")
_ARGO = re.compile(r"^time=\S+ level=\S+ .*\bargo=true\b")
_LOGGED = re.compile(r"^\[KFP Executor (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (\w+)\]: (.*)")
_EXECUTOR = (
    "Looking for component `", 'Loading KFP component "', "Got executor_input:", "Wrote executor output file to ",
    # boto3's, which writes them wherever logging is set up so.
    "Found credentials in ", "Found endpoint for ",
)  # fmt: skip

_PROGRESS = re.compile(r"^(.*\S) (\d+)/(\d+)(?: (.*))?$")


def read_log(server: Server, run_id: str, attempt: Attempt, workflow: Workflow | None = None) -> list[str]:
    """The lines that a pod wrote, KFP's among them.

    Raises:
        HeadstartError: nobody has them any more.
    """
    said = ""
    for path, query in _places(server, run_id, attempt, workflow):
        try:
            lines = _lines(server.read(path, query), whole=attempt.ended is None)
        except NotFoundError:
            continue
        except HeadstartError as error:
            said = said or str(error)
            continue
        # An error that came too late for a status of its own is the last line, or the only one.
        if lines and lines[-1].startswith('{"error_message"'):
            said = said or _message(lines.pop())
            if not lines:
                continue
        if not (lines and lines[0].lstrip().startswith("<")):
            return lines
    raise HeadstartError(_gone(server, run_id, attempt, workflow, said))


def _places(
    server: Server, run_id: str, attempt: Attempt, workflow: Workflow | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Where the log of a pod may be: the API, and, behind the address of KFP's page, the page's server."""
    yield f"/apis/v1alpha1/runs/{run_id}/nodes/{attempt.pod}/log", {}
    query = {"podname": attempt.pod, "runid": run_id, "createdat": f"{attempt.started:%Y-%m-%d}"}
    namespace = server.namespace or (workflow.namespace if workflow else None)
    if namespace:
        query["podnamespace"] = namespace
    yield "/k8s/pod/logs", query
    if workflow and workflow.bucket and attempt.log_key:
        # The page's server reads from KFP's store whatever is named.
        query = {"source": "minio", "bucket": workflow.bucket, "key": attempt.log_key}
        yield "/artifacts/get", {**query, **({"namespace": namespace} if namespace else {})}


def _gone(server: Server, run_id: str, attempt: Attempt, workflow: Workflow | None, said: str) -> str:
    why = "a log outlives its pod only where the cluster archives logs"
    if workflow and workflow.bucket and attempt.log_key:
        kept = f"It is kept in KFP's store as {workflow.bucket}/{attempt.log_key}."
        if workflow.is_packed:
            why = "of a workflow as large as this one, the server does not know where its logs are kept"
        return (
            f"The log of {attempt.pod} is not there any more, or {server.host} does not show it: {why}. {kept} The "
            f"run's page is {server.page(run_id)}."
        )
    told = f" (it says: {said[:200]})" if said else ""
    return (
        f"The log of {attempt.pod} is not there any more, or {server.host} does not show it{told}: {why}. The run's "
        f"page is {server.page(run_id)}."
    )


def own_lines(lines: Sequence[str], attempt: Attempt) -> list[str]:
    """The lines that a step wrote itself, each of its logging with the time.

    A driver is KFP's altogether, and so are its lines; of one that failed, the launcher's errors belong to the reason.
    """
    if attempt.is_driver:
        return list(lines)
    failed = attempt.word == "failed"
    kept = []
    block_end: str | None = None
    for line in lines:
        if block_end is not None:
            # Indented JSON, which ends where its first line began.
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
    """How far a step says that it is; None where it does not say so."""
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
    """The lines of a log; of one that is still written only those that are `whole`."""
    text = body.decode("utf-8", "replace")
    told = text[: text.rfind("\n") + 1] if whole else text
    return [printable(line, keep="\t") for line in told.splitlines()]
