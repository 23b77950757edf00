"""A stand-in for Kubeflow Pipelines' API server on this machine's loopback, for tests.

What it answers to, and with which parameters and bodies, it reads off kfp_server_api, KFP's own generated client. A
request that the real server would not understand is a problem, which the fixture `kfp` fails a test for. Runs advance
by one step whenever somebody looks at them.
"""

import contextlib
import functools
import inspect
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import kfp_server_api
import yaml
from kfp_server_api import models

NEVER = "0001-01-01T00:00:00Z"
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)

# What only the server may say; from the comments in KFP's run.proto, pipeline.proto and recurring_run.proto.
OUTPUTS = {
    "V2beta1Run": {"run_id", "state", "created_at", "finished_at", "scheduled_at", "run_details", "state_history",
                   "error", "plugins_output", "storage_state", "recurring_run_id"},
    "V2beta1RecurringRun": {"recurring_run_id", "created_at", "updated_at", "status", "error", "namespace"},
    "V2beta1Pipeline": {"pipeline_id", "created_at", "error"},
    "V2beta1Experiment": {"experiment_id", "created_at", "storage_state", "last_run_created_at"},
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One operation of the API, as kfp_server_api calls it."""

    name: str
    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: str | None
    has_file: bool


def operations() -> Iterator[Operation]:
    """Every operation that kfp_server_api knows."""
    for service in vars(kfp_server_api).values():
        if not (inspect.isclass(service) and service.__name__.endswith("ServiceApi")):
            continue
        for name, function in vars(service).items():
            if not name.endswith("_with_http_info"):
                continue
            source = inspect.getsource(function)
            path, method = re.search(r"call_api\(\s*'([^']+)', '(\w+)'", source).groups()
            body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
            yield Operation(
                name=name.removesuffix("_with_http_info"),
                method=method,
                path=re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(path)) + "$"),
                query=frozenset(re.findall(r"query_params\.append\(\('(\w+)'", source)),
                body=re.search(rf":type {body[1]}: (\w+)", source)[1] if body else None,
                has_file="local_var_files['uploadfile']" in source,
            )


OPERATIONS = tuple(operations())


def misfits(value: Any, kind: str, at: str = "body") -> Iterator[str]:
    """What in a JSON value does not fit the type that kfp_server_api calls `kind`."""
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{at} is no list"
            return
        for index, each in enumerate(value):
            yield from misfits(each, found[1], f"{at}[{index}]")
    elif found := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            yield f"{at} is no object"
            return
        for key, each in value.items():
            yield from misfits(each, found[1], f"{at}.{key}")
    elif kind in ("str", "int", "bool", "datetime", "float"):
        expected = {"str": str, "int": int, "bool": bool, "datetime": str, "float": (int, float)}[kind]
        if not isinstance(value, expected) or (kind == "int" and isinstance(value, bool)):
            yield f"{at} is {value!r}, no {kind}"
    elif kind != "object":
        model = getattr(models, kind)
        if hasattr(model, "allowable_values"):
            if value not in model.allowable_values:
                yield f"{at} is {value!r}, none of {model.allowable_values}"
            return
        if not isinstance(value, dict):
            yield f"{at} is no {kind}"
            return
        types = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
        for key, each in value.items():
            if key not in types:
                yield f"{at}.{key} is unknown to {kind}"
            elif key in OUTPUTS.get(kind, ()):
                yield f"{at}.{key} is the server's to say"
            else:
                yield from misfits(each, types[key], f"{at}.{key}")


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


@dataclass
class Workflow:
    """What Argo would make of a run; the nodes as argo-workflows names and numbers them."""

    name: str
    labels: list[str]
    paths: list[str]
    fails: str | None
    reused: frozenset[str]
    retried: frozenset[str] = frozenset()
    at: int = -1
    end: str | None = None

    @property
    def state(self) -> str:
        """The run's."""
        if self.end:
            return self.end
        if self.at < 0:
            return "PENDING"
        if self.fails and self.labels.index(self.fails) < self.at:
            return "FAILED"
        return "SUCCEEDED" if self.at >= len(self.labels) else "RUNNING"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELED")

    def node(self, name: str) -> str:
        """The id of a node: its name's FNV-1a hash follows the workflow's name."""
        value = 2166136261
        for byte in name.encode():
            value = (value ^ byte) * 16777619 % 2**32
        return f"{self.name}-{value}"

    def template(self, label: str) -> str:
        """The template of a step's pod; KFP has another one for steps with retries and with labels."""
        return "metadata-1-2-retry-system-container-impl" if label in self.retried else "system-container-impl"

    def pods(self) -> dict[str, str]:
        """What each pod is for."""
        return {
            f"{self.name}-{self.template(label)}-{self.node(f'{self.name}.{path}.{each}').rpartition('-')[2]}": (
                label + each.removeprefix("executor")
            )
            for label, path in zip(self.labels, self.paths, strict=True)
            for each in (("executor(0)", "executor(1)") if label in self.retried else ("executor",))
        }

    def details(self) -> list[dict[str, Any]]:
        """The task details as KFP lists them: neither ids nor pods of their own, ids of their successors."""
        tasks = [_task(self.name, "RUNNING", START, None), _task("root-driver", "SUCCEEDED", START, START)]
        tasks += [_task("root", "RUNNING", START, None), _task("for-loop-1", "RUNNING", START, None)]
        tasks += [_task("iteration-item", "RUNNING", START, None)]
        for index, (label, path) in enumerate(zip(self.labels, self.paths, strict=True)):
            if index > self.at or (self.fails and index > self.labels.index(self.fails)):
                break
            key, place = path.rpartition(".")[2], f"{self.name}.{path}"
            begin = START + timedelta(seconds=100 * index)
            done = index < self.at
            failed = label == self.fails and done
            reused = label in self.reused
            end = (begin + timedelta(seconds=1 if reused else 75)) if done else None
            state = "FAILED" if failed else "SUCCEEDED" if done else "RUNNING"
            tasks.append(_task(f"{key}-driver", "SUCCEEDED", begin, begin, self.node(place)))
            tasks.append(_task(key, state, begin, end, self.node(f"{place}.executor")))
            tasks.append(_task("executor", "SKIPPED" if reused and done else state, begin, end))
        # Sorted by an id that means nothing, as the real server has them.
        return sorted(tasks, key=lambda task: task["task_id"])

    def manifest(self) -> str:
        """The workflow as KFP's API of release 1 gives it."""
        nodes = {}
        for index, (label, path) in enumerate(zip(self.labels, self.paths, strict=True)):
            if index > self.at or label in self.reused or (self.fails and index > self.labels.index(self.fails)):
                continue
            name = f"{self.name}.{path}.executor"
            failed = label == self.fails and index < self.at
            phase = "Failed" if failed else "Succeeded" if index < self.at else "Running"
            begin = START + timedelta(seconds=100 * index)
            attempts = [(name, phase, begin)]
            if label in self.retried:
                nodes[self.node(name)] = {"id": self.node(name), "name": name, "type": "Retry", "phase": phase}
                attempts = [(f"{name}(0)", "Failed", begin), (f"{name}(1)", phase, begin + timedelta(seconds=40))]
            for each, outcome, started in attempts:
                nodes[self.node(each)] = {
                    "id": self.node(each),
                    "name": each,
                    "displayName": each.rpartition(".")[2],
                    "type": "Pod",
                    "templateName": self.template(label),
                    "phase": outcome,
                    "message": "Error (exit code 1)" if outcome == "Failed" else "",
                    "startedAt": started.isoformat(),
                }
        return json.dumps({"metadata": {"name": self.name, "annotations": {}}, "status": {"nodes": nodes}})


def _task(name: str, state: str, start: datetime, end: datetime | None, successor: str | None = None) -> dict[str, Any]:
    return {
        "run_id": "",
        "task_id": str(uuid.uuid4()),
        "display_name": name,
        "create_time": start.isoformat(),
        "start_time": start.isoformat(),
        "end_time": end.isoformat() if end else NEVER,
        "state": state,
        "child_tasks": [{"pod_name": successor}] if successor else [],
    }


def _places(spec: Mapping[str, Any], dag: Mapping[str, Any], path: str, suffix: str, parameters: Any) -> Iterator[Any]:
    done: list[str] = []
    while len(done) < len(dag["tasks"]):
        for key, task in sorted(dag["tasks"].items()):
            if key in done or not set(task.get("dependentTasks", [])) <= set(done):
                continue
            done.append(key)
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" not in component:
                yield task["taskInfo"]["name"] + suffix, f"{path}.{key}"
            elif "parameterIterator" in task:
                for index, item in enumerate(parameters["strategies"]):
                    inner = f"{path}.{key}.iteration-iterations({index}:{index}).iteration-item"
                    yield from _places(spec, component["dag"], inner, f" {item['name']}", parameters)
            else:
                yield from _places(spec, component["dag"], f"{path}.{key}", suffix, parameters)


class KfpServer:
    """The server and what it holds; `host` is its address."""

    def __init__(self) -> None:
        self.release = "2.17.0"
        self.plugin = True
        self.plugin_fails = False
        self.multi_user = False
        self.token: str | None = None
        self.cookie: str | None = None
        self.page_size = 2
        self.fails: str | None = None
        self.reused: frozenset[str] = frozenset()
        self.log = "".join(f"line {number}\n" for number in range(1, 41))
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
        self.looked: Callable[[Workflow], None] = lambda workflow: None
        self._over = threading.Event()
        handler = type("Handler", (_Handler,), {"kfp": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> "KfpServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.http.shutdown()
        self.http.server_close()

    def called(self, operation: str) -> list[Request]:
        """The requests for an operation."""
        return [each for each in self.requests if each.operation == operation]

    def hang(self) -> None:
        """Answers nothing until the server ends."""
        self._over.wait(60)

    # Operations, under the names that kfp_server_api has for them.

    def healthz_service_get_healthz(self, **_: Any) -> dict[str, Any]:
        if self.is_page:
            known = {"apiServerTagName": self.release, "apiServerMultiUser": self.multi_user,
                     "multi_user": self.multi_user}  # fmt: skip
            return {
                "frontendTagName": self.release,
                "apiServerReady": self.api_ready,
                **(known if self.api_ready else {}),
            }
        return {"commit_sha": "0" * 40, "tag_name": self.release, "multi_user": self.multi_user,
                "pipeline_store": "database"}  # fmt: skip

    def pipeline_service_list_pipelines(self, **query: str) -> dict[str, Any]:
        return self._page("pipelines", self._own(self.pipelines, query), query)

    def pipeline_service_create_pipeline(self, body: dict[str, Any]) -> dict[str, Any]:
        self._once(self.pipelines, body["display_name"])
        made = {**body, "pipeline_id": str(uuid.uuid4()), "created_at": _now()}
        self.pipelines.append(made)
        return made

    def pipeline_service_list_pipeline_versions(self, pipeline_id: str, **query: str) -> dict[str, Any]:
        return self._page(
            "pipeline_versions", [each for each in self.versions if each["pipeline_id"] == pipeline_id], query
        )

    def pipeline_service_get_pipeline_version(self, pipeline_id: str, pipeline_version_id: str) -> dict[str, Any]:
        return self._one(self.versions, "pipeline_version_id", pipeline_version_id)

    def upload_pipeline_version(self, file: str, name: str, pipelineid: str, **_: Any) -> dict[str, Any]:
        self._one(self.pipelines, "pipeline_id", pipelineid)
        self._once(self.versions, name)
        made = {"pipeline_id": pipelineid, "pipeline_version_id": str(uuid.uuid4()), "display_name": name,
                "created_at": _now(), "pipeline_spec": _spec_of(file)}  # fmt: skip
        self.versions.append(made)
        return made

    def experiment_service_list_experiments(self, **query: str) -> dict[str, Any]:
        return self._page("experiments", self._own(self.experiments, query), query)

    def experiment_service_create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        self._once(self.experiments, body["display_name"])
        if self.multi_user and not body.get("namespace"):
            raise Refused(400, "Invalid input error: Namespace cannot be empty")
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": _now()}
        self.experiments.append(made)
        return made

    def run_service_create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self._see_plugins_input(body)
        self._one(self.experiments, "experiment_id", body["experiment_id"])
        version = self._version_of(body)
        run_id = str(uuid.uuid4())
        made = {**body, "run_id": run_id, "created_at": START.isoformat(), "state": "PENDING"}
        if self.plugin_fails and "plugins_input" in body:
            made["plugins_output"] = {"mlflow": {"state": "PLUGIN_FAILED", "state_message": "MLflow did not answer"}}
        elif self.plugin and "plugins_input" in body:
            address = {"value": f"http://mlflow.example.com/#/experiments/7/runs/{run_id[:8]}", "render_type": "URL"}
            made["plugins_output"] = {"mlflow": {"state": "PLUGIN_SUCCEEDED", "entries": {"run_url": address}}}
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        steps = list(_places(spec, spec["root"]["dag"], "root", "", body["runtime_config"]["parameters"]))
        self.workflows[run_id] = Workflow(
            f"{spec['pipelineInfo']['name']}-x7k2p",
            [label for label, _ in steps],
            [path for _, path in steps],
            self.fails,
            self.reused,
        )
        self.runs.append(made)
        return made

    def run_service_get_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        run = self._one(self.runs, "run_id", run_id)
        workflow = self.workflows[run_id]
        self.looked(workflow)
        run["state"] = workflow.state
        answer = {**run, "run_details": {"task_details": workflow.details()}}
        if workflow.is_final:
            run["finished_at"] = answer["finished_at"] = (START + timedelta(seconds=100 * workflow.at)).isoformat()
        else:
            workflow.at += 1
        return answer

    def run_service_list_runs(self, **query: str) -> dict[str, Any]:
        runs = self._own(self.runs, {}) if "namespace" in query else self.runs
        if experiment := query.get("experiment_id"):
            runs = [each for each in runs if each["experiment_id"] == experiment]
        assert query.get("sort_by") in (None, "created_at desc")
        return self._page("runs", runs[::-1], query)

    def run_service_retry_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        workflow = self.workflows[self._one(self.runs, "run_id", run_id)["run_id"]]
        workflow.at = workflow.labels.index(workflow.fails) if workflow.fails else workflow.at
        workflow.fails = workflow.end = None
        return {}

    def run_service_terminate_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        self.workflows[self._one(self.runs, "run_id", run_id)["run_id"]].end = "CANCELED"
        return {}

    def recurring_run_service_create_recurring_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self._see_plugins_input(body)
        self._one(self.experiments, "experiment_id", body["experiment_id"])
        self._version_of(body)
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise Refused(400, "Invalid input error: Schedule cron is not a supported format")
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "status": "ENABLED", "created_at": _now()}
        self.recurring.append(made)
        return made

    def recurring_run_service_list_recurring_runs(self, **query: str) -> dict[str, Any]:
        return self._page("recurringRuns", self._own(self.recurring, {}), query)

    def recurring_run_service_disable_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self._one(self.recurring, "recurring_run_id", recurring_run_id)["status"] = "DISABLED"
        return {}

    def recurring_run_service_enable_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self._one(self.recurring, "recurring_run_id", recurring_run_id)["status"] = "ENABLED"
        return {}

    def recurring_run_service_delete_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self.recurring.remove(self._one(self.recurring, "recurring_run_id", recurring_run_id))
        return {}

    # What kfp_server_api has no name for.

    def read_log(self, run_id: str, pod: str) -> str:
        """The text that a pod wrote."""
        label = self.workflows[run_id].pods().get(pod)
        if label is None:
            raise Refused(500, f"Failed to read logs from pod {pod}")
        return f"log of {label}\n{self.log}"

    def workflow_of(self, run_id: str) -> dict[str, Any]:
        """A run as the API of release 1 gives it."""
        run = self._one(self.runs, "run_id", run_id)
        manifest = self.workflows[run_id].manifest()
        return {"run": {"id": run_id, "name": run["display_name"]}, "pipeline_runtime": {"workflow_manifest": manifest}}

    # Helpers.

    def _own(self, entries: list[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
        if self.multi_user and "namespace" in query:
            return [each for each in entries if each.get("namespace") == query["namespace"]]
        return entries

    def _page(self, name: str, entries: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
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

    def _one(self, entries: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
        for each in entries:
            if each[key] == value:
                return each
        raise Refused(404, f"ResourceNotFoundError: {key} {value} not found")

    def _once(self, entries: list[dict[str, Any]], name: str) -> None:
        if any(each["display_name"] == name for each in entries):
            raise Refused(409, f"Already exist error: {name} already exists. Please specify a new name")

    def _version_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        reference = body["pipeline_version_reference"]
        version = self._one(self.versions, "pipeline_version_id", reference["pipeline_version_id"])
        assert version["pipeline_id"] == reference["pipeline_id"]
        return version

    def _see_plugins_input(self, body: Mapping[str, Any]) -> None:
        """Releases before plugins refuse unknown fields, as KFP's marshaller is set to; the plugin reads its own."""
        given = body.get("plugins_input")
        if given is None:
            return
        if self.release.startswith(("2.15", "2.16", "master-old")):
            raise Refused(400, 'proto: (line 1:1): unknown field "plugins_input"')
        unknown = given["mlflow"].keys() - {"experiment_name", "experiment_id", "disabled"}
        if given.keys() != {"mlflow"} or unknown:
            self.problems.append(f"plugins_input is {given}")


@functools.cache
def _spec_of(package: str) -> dict[str, Any]:
    """Pipeline and platform of an uploaded file, in the form in which the API gives them back."""
    documents = list(yaml.load_all(package, yaml.CSafeLoader))
    return (
        documents[0] if len(documents) == 1 else dict(zip(("pipeline_spec", "platform_spec"), documents, strict=True))
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


class _Handler(BaseHTTPRequestHandler):
    """Takes requests apart, checks them and has the KfpServer answer."""

    kfp: KfpServer
    protocol_version = "HTTP/1.1"
    # Headers and body go out apart, and a client's delayed acknowledgement would hold up each second part for 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            self._send(200, self._answer(path, query, body))
        except Refused as refusal:
            # As grpc-gateway writes errors.
            self._send(refusal.status, {"error": str(refusal), "code": 3, "message": str(refusal), "details": []})
        except _Faulty as faulty:
            self._fail(faulty.kind)
        except Exception as error:
            self.kfp.problems.append(f"{self.command} {self.path}: {type(error).__name__}: {error}")
            self._send(500, {"error": str(error)})

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> dict[str, Any] | str:
        found = [(each, each.path.fullmatch(path)) for each in OPERATIONS if each.method == self.command]
        matching = [(each, match) for each, match in found if match]
        name = matching[0][0].name if matching else self._other(path)
        fault = next((each for each in self.kfp.faults if each.operation in (name, "*") and each.times), None)
        if fault:
            fault.times -= 1
            if isinstance(fault.kind, int):
                echoed = " ".join(filter(None, (self.headers.get("Authorization"), self.headers.get("Cookie"))))
                raise Refused(fault.kind, f"a fault of the stand-in {echoed}".strip())
            raise _Faulty(fault.kind)
        self._authenticate()
        if not matching:
            return self._answer_other(name, path, query)
        operation, match = matching[0]
        problems = [f"query {key} is unknown" for key in query.keys() - operation.query]
        content: Any = None
        if operation.has_file:
            content = self._file(body)
        elif operation.body:
            content = json.loads(body)
            known = dict(content)
            if self.kfp.release.startswith(("2.15", "2.16")):
                known.pop("plugins_input", None)
            problems += misfits(known, operation.body)
        elif body not in (b"", b"{}"):
            problems.append(f"the body {body[:50]!r} is not expected")
        self.kfp.problems += [f"{operation.name}: {problem}" for problem in problems]
        given = {**match.groupdict(), **query}
        self.kfp.requests.append(Request(operation.name, given, content, dict(self.headers)))
        function = getattr(self.kfp, operation.name)
        if operation.has_file:
            return function(file=content, **given)
        answer: dict[str, Any] = function(body=content, **given) if operation.body else function(**given)
        return answer

    def _authenticate(self) -> None:
        kfp = self.kfp
        if kfp.token and self.headers.get("Authorization") != f"Bearer {kfp.token}":
            raise Refused(401, "Request header error: there is no user identity header")
        if kfp.cookie and self.headers.get("Cookie") != kfp.cookie:
            raise _Faulty("redirect")

    def _other(self, path: str) -> str:
        if path.startswith("/apis/v1alpha1/"):
            return "log"
        if path.startswith("/apis/v1beta1/runs/"):
            return "workflow"
        return "page_log" if path == "/k8s/pod/logs" else path

    def _answer_other(self, name: str, path: str, query: Mapping[str, str]) -> dict[str, Any] | str:
        parts = path.split("/")
        if name == "log" and len(parts) == 8 and not self.kfp.is_page:
            return self.kfp.read_log(parts[4], parts[6])
        if name == "log":
            return "<!doctype html><title>Kubeflow Pipelines</title>"
        if name == "page_log" and not self.kfp.is_page:
            raise Refused(404, "Not Found")
        if name == "page_log":
            return self.kfp.read_log(query["runid"], query["podname"])
        if name == "workflow":
            return self.kfp.workflow_of(parts[4])
        self.kfp.problems.append(f"{self.command} {self.path} is no operation of KFP's")
        raise Refused(404, "Not Found")

    def _file(self, body: bytes) -> str:
        kind = self.headers["Content-Type"]
        assert kind.startswith("multipart/form-data"), kind
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        (part,) = message.get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        assert part.get_filename().endswith((".yaml", ".zip", ".tar.gz"))
        return part.get_payload(decode=True).decode()

    def _send(self, status: int, content: dict[str, Any] | str) -> None:
        is_text = isinstance(content, str)
        body = content.encode() if is_text else json.dumps(content).encode()
        # Whoever asked may have gone.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _fail(self, kind: str) -> None:
        match kind:
            case "html":
                self._send(200, "<!doctype html><html><title>Log in</title></html>")
            case "truncated":
                self._send(200, '{"display_name": "digi')
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "https://login.example.com/dex?state=1")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "slow":
                self.kfp.hang()
            case "closed":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "half":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"display_name"')
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "strange":
                self._send(200, {"created_at": "yesterday", "run_id": "1"})


class _Faulty(Exception):  # noqa: N818
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


if __name__ == "__main__":
    # To look at the commands in a terminal.
    with KfpServer() as server:
        print(server.host, flush=True)
        time.sleep(3600)
