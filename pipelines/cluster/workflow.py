"""Argo workflow of a run: its nodes with their states, messages and pods.

Kubeflow Pipelines' current API reports neither the pods of a run nor why they wait, and stops updating the steps of a
large workflow. The workflow, available through its v1 API, contains all of that.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from headstart.errors import HeadstartError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.transport import UnansweredError

# A node's attempts have its name and a number from 0 in parentheses. An iteration of a loop, (1:1), is not an attempt.
_ATTEMPT = re.compile(r"\((\d+)\)")
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Node:
    """A node of a workflow; `kind`, `phase` and `message` are Argo's.

    `path` is its position below the workflow, without attempt numbers; `queue` is the Kueue queue that admits its pod,
    and `log_key` the key of its archived log in the store; each None if there is none.
    """

    name: str
    path: str
    kind: str
    phase: str
    message: str
    started: datetime | None
    ended: datetime | None
    pod: str
    queue: str | None
    log_key: str | None

    @property
    def number(self) -> tuple[int, ...]:
        """The attempt numbers of the node and of the nodes that enclose it, outermost first; later attempts are
        greater."""
        return tuple(int(each) for each in _ATTEMPT.findall(self.name))


@dataclass(frozen=True)
class Workflow:
    """A workflow as last seen by the server."""

    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The workflow's name, with which its nodes' names begin."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace in which it runs."""
        return self.manifest["metadata"].get("namespace")

    @property
    def message(self) -> str | None:
        """Argo's message about the workflow as a whole."""
        return self._status.get("message")

    @property
    def is_packed(self) -> bool:
        """True if it is so large that Argo compresses its nodes, which Kubeflow Pipelines cannot read."""
        return bool(self._status.get("compressedNodes"))

    @property
    def bucket(self) -> str | None:
        """The bucket in which logs are archived."""
        reference = self._status.get("artifactRepositoryRef") or {}
        repository = reference.get("artifactRepository") or {}
        return (repository.get("s3") or {}).get("bucket")

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.manifest.get("status") or {}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name."""
        nodes = self._status.get("nodes")
        if not nodes and self.is_packed:
            # Argo compresses the nodes of a workflow that would be too large for etcd.
            nodes = json.loads(gzip.decompress(base64.b64decode(self._status["compressedNodes"])))
        return {node["name"]: self._node(node) for node in (nodes or {}).values()}

    @cached_property
    def paths(self) -> dict[str, list[Node]]:
        """The nodes by path, in the order of their attempts."""
        return self._by(lambda node: node.path)

    def at(self, path: str) -> tuple[Node | None, list[Node]]:
        """Return the node at `path` in the latest attempt of its ancestors, and its own attempts if it has any."""
        base, _ = located(self.name, path, self._latest)
        return self.nodes.get(base), self._attempts.get(base, [])

    @cached_property
    def package(self) -> dict[str, Any] | None:
        """The part of the pipeline that the workflow contains: graphs and tasks, without executors."""
        given = ((self.manifest.get("spec") or {}).get("arguments") or {}).get("parameters") or ()
        specs = {each["name"].removeprefix("components-"): each["value"] for each in given}
        if "root" not in specs:
            return None
        return {
            "root": json.loads(specs["root"]),
            "components": {name: json.loads(text) for name, text in specs.items() if name.startswith("comp-")},
        }

    @cached_property
    def _attempts(self) -> dict[str, list[Node]]:
        attempts = self._by(lambda node: re.sub(r"\(\d+\)$", "", node.name))
        return {base: [node for node in nodes if node.name != base] for base, nodes in attempts.items()}

    def _by(self, key: Callable[[Node], str]) -> dict[str, list[Node]]:
        """Return the nodes by a key, in the order of their attempts."""
        found: dict[str, list[Node]] = {}
        for node in sorted(self.nodes.values(), key=lambda node: node.number):
            found.setdefault(key(node), []).append(node)
        return found

    def _latest(self, base: str) -> str:
        attempts = self._attempts.get(base)
        return attempts[-1].name if attempts else base

    def _node(self, node: Mapping[str, Any]) -> Node:
        labels = {each["name"]: each.get("value") for each in node.get("inputs", {}).get("parameters", ())}
        # KFP passes each label of a pod as two parameters.
        queue = next(
            (
                labels.get(name.replace("-label-key", "-label-val"))
                for name, value in labels.items()
                if value == _QUEUE_LABEL
            ),
            None,
        )
        logs = [each for each in node.get("outputs", {}).get("artifacts", ()) if each.get("name") == "main-logs"]
        return Node(
            name=node["name"],
            path=_ATTEMPT.sub("", node["name"].removeprefix(self.name)).removeprefix("."),
            kind=node.get("type", ""),
            phase=node.get("phase", ""),
            message=" ".join(str(node.get("message") or "").split()),
            started=_time(node.get("startedAt")),
            ended=_time(node.get("finishedAt")),
            pod=self._pod(node),
            queue=queue,
            log_key=(logs[0].get("s3") or {}).get("key") if logs else None,
        )

    def _pod(self, node: Mapping[str, Any]) -> str:
        """Return the name of a node's pod; source: RetrievePodName in KFP's backend."""
        annotations = self.manifest["metadata"].get("annotations") or {}
        if annotations.get("workflows.argoproj.io/pod-name-format") == "v1":
            return str(node["id"])
        return f"{self.name}-{node.get('templateName', '')}-{node['id'].rpartition('-')[2]}"


def read_workflow(server: Server, run_id: str) -> Workflow | None:
    """Read the workflow of a run; None if the server does not provide it.

    Raises:
        UnansweredError: the server does not answer at present.
    """
    try:
        answer = json.loads(server.read(f"/apis/v1beta1/runs/{run_id}"))
        workflow = Workflow(json.loads(answer["pipeline_runtime"]["workflow_manifest"]))
        # Evaluated here, so that a malformed manifest raises inside this block.
        workflow.name, workflow.nodes, workflow.package  # noqa: B018
    except UnansweredError:
        raise
    # A later release may lack that API, and a gateway may block it.
    except (HeadstartError, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, zlib.error):
        return None
    return workflow


def located(workflow: str, path: str, latest: Callable[[str], str]) -> tuple[str, str]:
    """Return the name of the node at `path` below a workflow, and that of its latest attempt, found by `latest`."""
    base, current = workflow, latest(workflow)
    for segment in path.split("."):
        # A hook belongs to the node itself, everything else to its latest attempt.
        base = f"{base if segment == 'onExit' else current}.{segment}"
        current = latest(base)
    return base, current


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
