"""What the steps of a run wrote, and why one failed.

KFP's present API does not say in which pod a task ran; the workflow, which its API of release 1 gives, does.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.errors import HeadstartError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.steps import Step
from headstart_pipelines.cluster.transport import NotFoundError, UnansweredError


@dataclass(frozen=True)
class Attempt:
    """A pod that ran, or failed to run, a step: its state as Argo calls it, and what Argo says about it."""

    pod: str
    phase: str
    message: str
    started: str


def attempts(server: Server, run_id: str, steps: Sequence[Step]) -> dict[str, list[Attempt]]:
    """The pods of each step, by its label, the latest last; a driver's where that is what failed."""
    workflow = _workflow(server, run_id)
    name = workflow["metadata"]["name"]
    nodes = sorted(workflow.get("status", {}).get("nodes", {}).values(), key=lambda node: node.get("startedAt") or "")
    found: dict[str, list[Attempt]] = {}
    for step in steps:
        body, driver = f"{name}.{step.path}.executor", f"{name}.{step.path}-driver"
        for node in nodes:
            ran = node["name"] == body or node["name"].startswith(f"{body}(")
            failed = node["name"] == driver and node.get("phase") in ("Failed", "Error")
            if node.get("type") == "Pod" and (ran or failed):
                found.setdefault(step.label, []).append(
                    Attempt(
                        pod=_pod(workflow, node),
                        phase=node.get("phase", ""),
                        message=node.get("message", ""),
                        started=node.get("startedAt") or "",
                    )
                )
    return found


def read_log(server: Server, run_id: str, attempt: Attempt) -> list[str]:
    """The lines that a pod wrote.

    Raises:
        HeadstartError: nobody has them any more.
    """
    query = {"podname": attempt.pod, "runid": run_id, "createdat": attempt.started[:10]}
    if server.namespace:
        query["podnamespace"] = server.namespace
    # Where the address is that of KFP's page, which passes on the API but not its logs, the page's server has them.
    places: tuple[tuple[str, dict[str, str]], ...] = (
        (f"/apis/v1alpha1/runs/{run_id}/nodes/{attempt.pod}/log", {}),
        ("/k8s/pod/logs", query),
    )
    for path, asked in places:
        with contextlib.suppress(HeadstartError):
            body = server.read(path, asked)
            # A page, or an error that came too late for a status of its own.
            if not body.lstrip().startswith((b"<", b'{"error_message"')):
                return _lines(body)
    raise HeadstartError(
        f"The log of {attempt.pod} is not there any more, or {server.host} does not show it: a log outlives its pod "
        f"only where the cluster archives logs. The run's page is {server.page(run_id)}."
    )


def _workflow(server: Server, run_id: str) -> dict[str, Any]:
    try:
        answer = json.loads(server.read(f"/apis/v1beta1/runs/{run_id}"))
        workflow = json.loads(answer["pipeline_runtime"]["workflow_manifest"])
        workflow["metadata"]["name"]
    except (NotFoundError, ValueError, KeyError, TypeError):
        raise UnansweredError(
            f"The server at {server.host} does not say in which pods run {run_id} worked; see its page, "
            f"{server.page(run_id)}."
        ) from None
    return dict(workflow)


def _pod(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """The pod of an Argo node; source: RetrievePodName in KFP's backend."""
    annotations = workflow["metadata"].get("annotations") or {}
    if annotations.get("workflows.argoproj.io/pod-name-format") == "v1":
        return str(node["id"])
    return f"{workflow['metadata']['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}"


def _lines(body: bytes) -> list[str]:
    return [
        "".join(each if each.isprintable() or each == "\t" else "�" for each in line)
        for line in body.decode("utf-8", "replace").splitlines()
    ]
