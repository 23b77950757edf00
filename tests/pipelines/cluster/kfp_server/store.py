"""What the server holds, and how it is found and listed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.pipelines.cluster.kfp_server.operations import misfits
from tests.pipelines.cluster.kfp_server.workflows import Workflow


class Refused(Exception):  # noqa: N818
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What goes wrong with the next `times` requests for an operation: a status, or a way to fail."""

    operation: str
    kind: int | str
    times: int = 1


@dataclass
class Request:
    """A request that was understood."""

    operation: str
    parameters: dict[str, str]
    body: Any
    headers: Mapping[str, str]


class Store:
    """What was made, how the server is set up, and what became of the requests."""

    def __init__(self) -> None:
        self.release = "2.17.0"
        self.plugin = True
        self.plugin_fails = False
        self.multi_user = False
        self.token: str | None = None
        self.cookie: str | None = None
        self.page_size = 2
        self.fails: str | None = None
        # How often the step that fails does so, when it is retried.
        self.failures = 1
        self.reused: frozenset[str] = frozenset()
        # Whether Argo makes every node one of attempts, as KFP 2.17 configures it.
        self.is_wrapped = True
        # Messages of pods that cannot start, and Kueue's queues, by the labels of steps.
        self.held: dict[str, str] = {}
        self.queues: dict[str, str] = {}
        # The pods whose logs nobody has any more; whether `log` is all that a pod wrote.
        self.gone: set[str] = set()
        self.is_raw = False
        self.log = "".join(f"line {number}\n" for number in range(1, 41))
        # What KFP's store holds, by bucket and key.
        self.store: dict[str, str] = {}
        # Whether this is the server of KFP's page, which passes most requests on to the API's.
        self.is_page = False
        self.api_ready = True
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []
        self.workflows: dict[str, Workflow] = {}
        self.recorded: dict[str, dict[str, Any]] = {}
        self.looked: Callable[[Workflow], None] = lambda workflow: None

    # Helpers.

    def own(self, entries: list[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Those of the namespace that a query names."""
        if self.multi_user and "namespace" in query:
            return [each for each in entries if each.get("namespace") == query["namespace"]]
        return entries

    def page(self, name: str, entries: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the entries that a query asks for."""
        if text := query.get("filter"):
            asked = json.loads(text)
            self.problems += misfits(asked, "V2beta1Filter", "filter")
            for predicate in asked["predicates"]:
                assert predicate["operation"] == "EQUALS", predicate
                entries = [each for each in entries if each.get(predicate["key"]) == predicate["string_value"]]
        if int(query.get("page_size", 20)) > 200:
            raise Refused(400, "Invalid input error: The page size is too large")
        offset = int(query.get("page_token") or 0)
        end = offset + min(self.page_size, int(query.get("page_size", 20)))
        following = {"next_page_token": str(end)} if end < len(entries) else {}
        return {name: entries[offset:end], "total_size": len(entries), **following}

    def one(self, entries: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
        """The entry with a value; refused if there is none."""
        for each in entries:
            if each[key] == value:
                return each
        raise Refused(404, f"ResourceNotFoundError: {key} {value} not found")

    def once(self, entries: list[dict[str, Any]], name: str) -> None:
        """Refuses a name that is taken."""
        if any(each["display_name"] == name for each in entries):
            raise Refused(409, f"Already exist error: {name} already exists. Please specify a new name")


def now() -> str:
    """The time, as KFP writes it."""
    return datetime.now(UTC).isoformat()
