"""The Argo workflow of a run: its nodes, and what they say.

Kubeflow Pipelines' present API does not say in which pods a run works, nor what keeps them waiting, and loses sight of
the steps of a large workflow. The workflow, which its API of release 1 gives, says all of it.
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

# A node's attempts are called after it, with a number that counts from 0. A round of a loop, (1:1), is no attempt.
_ATTEMPT = re.compile(r"\((\d+)\)")
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Node:
    """A node of a workflow; `kind`, `phase` and `message` are Argo's words.

    `path` is its place below the workflow, whichever attempt it belongs to; `queue` is the Kueue queue that admits its
    pod, and `log_key` where its log is archived in the store, each None where there is none.
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
        """Which attempt it is, and of which attempts of what encloses it: later ones are greater."""
        return tuple(int(each) for each in _ATTEMPT.findall(self.name))


@dataclass(frozen=True)
class Workflow:
    """A workflow as it was when the server last saw it."""

    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, which those of its nodes begin with."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace that it runs in."""
        return self.manifest["metadata"].get("namespace")

    @property
    def message(self) -> str | None:
        """Argo's message about the workflow as a whole."""
        return self._status.get("message")

    @property
    def is_packed(self) -> bool:
        """Whether it is so large that Argo packs its nodes, of which Kubeflow Pipelines then knows nothing."""
        return bool(self._status.get("compressedNodes"))

    @property
    def bucket(self) -> str | None:
        """The bucket that logs are archived in."""
        reference = self._status.get("artifactRepositoryRef") or {}
        repository = reference.get("artifactRepository") or {}
        return (repository.get("s3") or {}).get("bucket")

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.manifest.get("status") or {}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The nodes by their names."""
        nodes = self._status.get("nodes")
        if not nodes and self.is_packed:
            # Argo packs those of a workflow that would be too large for etcd.
            nodes = json.loads(gzip.decompress(base64.b64decode(self._status["compressedNodes"])))
        return {node["name"]: self._node(node) for node in (nodes or {}).values()}

    @cached_property
    def paths(self) -> dict[str, list[Node]]:
        """The nodes by their paths, in the order of their attempts."""
        return self._by(lambda node: node.path)

    def at(self, path: str) -> tuple[Node | None, list[Node]]:
        """The node at `path` in the latest attempt of what encloses it, and its own attempts where it has some."""
        base, _ = located(self.name, path, self._latest)
        return self.nodes.get(base), self._attempts.get(base, [])

    @cached_property
    def package(self) -> dict[str, Any] | None:
        """The pipeline as far as the workflow holds it: graphs and tasks, but no components' insides."""
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
        """The nodes by a key, in the order of their attempts."""
        found: dict[str, list[Node]] = {}
        for node in sorted(self.nodes.values(), key=lambda node: node.number):
            found.setdefault(key(node), []).append(node)
        return found

    def _latest(self, base: str) -> str:
        attempts = self._attempts.get(base)
        return attempts[-1].name if attempts else base

    def _node(self, node: Mapping[str, Any]) -> Node:
        labels = {each["name"]: each.get("value") for each in node.get("inputs", {}).get("parameters", ())}
        # KFP hands each label of a pod on as two parameters.
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
        """The name of a node's pod; source: RetrievePodName in KFP's backend."""
        annotations = self.manifest["metadata"].get("annotations") or {}
        if annotations.get("workflows.argoproj.io/pod-name-format") == "v1":
            return str(node["id"])
        return f"{self.name}-{node.get('templateName', '')}-{node['id'].rpartition('-')[2]}"


def read_workflow(server: Server, run_id: str) -> Workflow | None:
    """The workflow of a run; None where the server does not tell it.

    Raises:
        UnansweredError: the server does not answer now.
    """
    try:
        answer = json.loads(server.read(f"/apis/v1beta1/runs/{run_id}"))
        workflow = Workflow(json.loads(answer["pipeline_runtime"]["workflow_manifest"]))
        # Whatever is broken in it shows here.
        workflow.name, workflow.nodes, workflow.package  # noqa: B018
    except UnansweredError:
        raise
    # A later release may not have that API, and a gateway may keep it back.
    except (HeadstartError, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, zlib.error):
        return None
    return workflow


def located(workflow: str, path: str, latest: Callable[[str], str]) -> tuple[str, str]:
    """The name of the node at `path` below a workflow's, and that of its latest attempt, as `latest` tells it."""
    base, current = workflow, latest(workflow)
    for segment in path.split("."):
        # A hook hangs on the node itself, everything else on its latest attempt.
        base = f"{base if segment == 'onExit' else current}.{segment}"
        current = latest(base)
    return base, current


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
