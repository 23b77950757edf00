"""The Argo workflow of a run: its nodes as argo-workflows names and numbers them for what KFP makes of a pipeline."""

import base64
import gzip
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

NEVER = "0001-01-01T00:00:00Z"
# What the API says of a run that has not ended.
UNFINISHED = "1970-01-01T00:00:00Z"
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)

Node = dict[str, Any]

OMITTED = "omitted: depends condition not met"
# What KFP's API calls the phases of Argo's nodes.
STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED", "Running": "RUNNING", "Pending": "PENDING",
          "Skipped": "SKIPPED", "Omitted": "SKIPPED"}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A step: its label, its path below the workflow, its task, and the paths of what has to end well before it."""

    label: str
    path: str
    task: Mapping[str, Any]
    needs: tuple[str, ...]

    @property
    def is_exit_task(self) -> bool:
        """Whether it runs whatever became of the others."""
        return ".onExit." in self.path


@dataclass
class Workflow:
    """A run's workflow, which goes through its steps one after the other; `at` is the number of the one at work.

    `is_wrapped` is how KFP 2.17 configures Argo: every node is one of attempts. `is_packed` is what becomes of one of
    more than 1 MiB. `held` are the messages of pods that cannot start and `queues` Kueue's queues, by steps' labels;
    `stuck` are steps whose drivers fail.
    """

    name: str
    spec: Mapping[str, Any]
    parameters: Mapping[str, Any]
    fails: str | None = None
    reused: frozenset[str] = frozenset()
    retried: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    held: Mapping[str, str] = field(default_factory=dict)
    queues: Mapping[str, str] = field(default_factory=dict)
    is_wrapped: bool = True
    is_packed: bool = False
    at: int = -2
    end: str | None = None
    places: list[Place] = field(init=False)

    def __post_init__(self) -> None:
        self.places = list(places(self.spec, self.spec["root"]["dag"], "root", "", self.parameters))
        self._known: list[dict[str, Any]] = []

    @property
    def labels(self) -> list[str]:
        """The steps' labels, in the order in which they run."""
        return [place.label for place in self.places]

    @property
    def failing(self) -> list[int]:
        """The numbers of the steps that fail when their turn comes."""
        return [index for index, label in enumerate(self.labels) if label == self.fails or label in self.stuck]

    @property
    def omitted(self) -> set[int]:
        """The numbers of the steps that will not run, as what they need does not end well."""
        bad = {*self.failing}
        for index, place in enumerate(self.places):
            paths = [self.places[each].path for each in bad]
            if not place.is_exit_task and any(is_below(path, need) for path in paths for need in place.needs):
                bad.add(index)
        return bad - {*self.failing}

    @property
    def state(self) -> str:
        """The run's."""
        if self.end:
            return self.end
        if self.at < 0:
            return "PENDING"
        over = all(not self._runs(index) for index in range(self.at, len(self.places)))
        return ("FAILED" if self._has_failed() else "SUCCEEDED") if over else "RUNNING"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELED")

    @property
    def now(self) -> datetime:
        """When the step at work began."""
        return START + timedelta(seconds=100 * max(self.at, 0))

    def advance(self) -> None:
        """Comes to the next step that runs."""
        if self.end == "CANCELING":
            self.end = "FAILED"
        elif not self.is_final and not (0 <= self.at < len(self.places) and self.labels[self.at] in self.held):
            self.at += 1
            while 0 <= self.at < len(self.places) and not self._runs(self.at):
                self.at += 1

    def id(self, name: str) -> str:
        """The id of a node: its name's FNV-1a hash follows the workflow's name."""
        if name == self.name:
            return name
        value = 2166136261
        for byte in name.encode():
            value = (value ^ byte) * 16777619 % 2**32
        return f"{self.name}-{value}"

    def nodes(self) -> dict[str, Node]:
        """The nodes by their ids."""
        made: dict[str, Node] = {}
        if self.at >= 0:
            _Nodes(self, made).entrypoint()
        return made

    def pods(self) -> dict[str, str]:
        """What each pod that has started is for: its step's label, and its node's name."""
        labels = {}
        for node in self.nodes().values():
            for place in self.places:
                if node["type"] == "Pod" and node["phase"] != "Pending" and plain(node["name"]).startswith(
                    (f"{self.name}.{place.path}.executor", f"{self.name}.{place.path}-driver")
                ):  # fmt: skip
                    last = node["displayName"].removeprefix("executor")
                    labels[f"{self.name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"] = place.label + (
                        "" if last == "(0)" and place.label not in self.retried else last
                    )
        return labels

    def details(self) -> list[dict[str, Any]]:
        """The task details as KFP lists them: neither ids nor pods of their own, ids of their successors.

        Of a workflow that is packed, KFP goes on to tell what it last knew.
        """
        if self.is_packed:
            return self._known
        tasks = [
            {
                "run_id": "",
                "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, node["id"])),
                "display_name": node["displayName"],
                "create_time": START.isoformat(),
                "start_time": node["startedAt"],
                "end_time": node.get("finishedAt") or NEVER,
                "state": STATES[node["phase"]],
                **({"child_tasks": [{"pod_name": each} for each in node["children"]]} if node["children"] else {}),
            }
            for node in self.nodes().values()
        ]
        # Sorted by an id that means nothing, as the real server has them.
        self._known = sorted(tasks, key=lambda task: task["task_id"])
        return self._known

    def manifest(self) -> dict[str, Any]:
        """The workflow as KFP's API of release 1 gives it."""
        graphs = {name: each for name, each in self.spec["components"].items() if "dag" in each}
        leaves = [each for each in self.spec["components"].values() if "dag" not in each]
        specs = {"components-root": self.spec["root"], **{f"components-{name}": each for name, each in graphs.items()}}
        specs |= {f"components-{hashlib.sha256(json.dumps(each).encode()).hexdigest()}": each for each in leaves}
        nodes = self.nodes()
        packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode(), mtime=0)).decode()
        return {
            "metadata": {
                "name": self.name,
                "namespace": "kubeflow",
                "annotations": {"workflows.argoproj.io/pod-name-format": "v2"},
            },
            "spec": {
                "entrypoint": "entrypoint",
                "arguments": {
                    "parameters": [{"name": name, "value": json.dumps(each)} for name, each in specs.items()]
                },
            },
            "status": {
                "phase": {"PENDING": None, "CANCELING": "Running"}.get(self.state, self.state.capitalize()),
                "artifactRepositoryRef": {"artifactRepository": {"archiveLogs": True, "s3": {"bucket": "mlpipeline"}}},
                **({"compressedNodes": packed} if self.is_packed else {"nodes": nodes}),
            },
        }

    def _runs(self, index: int) -> bool:
        """Whether a step runs, in spite of what failed before it."""
        return index not in self.omitted

    def _has_failed(self) -> bool:
        return any(index < self.at for index in self.failing)


@dataclass
class _Nodes:
    """Makes the nodes of a workflow, from the root down."""

    workflow: Workflow
    made: dict[str, Node]

    def entrypoint(self) -> None:
        """The workflow's own node, and the pipeline's."""
        every = range(len(self.workflow.places))
        inner = self._add(None, self.workflow.name, "DAG", self._phase(every), every)
        self._add(inner, f"{inner}.root-driver", "Pod", "Succeeded", every, template="system-dag-driver")
        root = self._add(inner, f"{inner}.root", "DAG", self._phase(every), every)
        self._tasks(self.workflow.spec["root"]["dag"], root, "root", "", self.workflow.parameters)

    def _tasks(self, dag: Mapping[str, Any], parent: str, path: str, suffix: str, scope: Mapping[str, Any]) -> None:
        for key, task in dag["tasks"].items():
            if not is_exit_task(task):
                self._task(key, task, dag, parent, path, suffix, scope)

    def _task(
        self, key: str, task: Any, dag: Any, parent: str, path: str, suffix: str, scope: Mapping[str, Any]
    ) -> None:
        flow = self.workflow
        component = flow.spec["components"][task["componentRef"]["name"]]
        place, base, is_loop = f"{path}.{key}", f"{parent}.{key}", "parameterIterator" in task
        inside = [
            index for index, each in enumerate(flow.places) if each.path == place or each.path.startswith(f"{place}.")
        ]
        members = [index for index in inside if not flow.places[index].path.startswith(f"{place}.onExit.")]
        if not any(self._has_started(index) for index in members):
            if self._is_over(members):
                for name in [base] if is_loop else [f"{base}-driver", base]:
                    self._add(parent, name, "Skipped", "Omitted", members, message=OMITTED)
            return
        if "dag" not in component:
            self._container(members[0], parent, base, task)
            return
        inner_scope = passed(task, scope)
        if is_loop:
            self._loop(task, component, parent, base, place, suffix, inner_scope, members)
            return
        self._add(parent, f"{base}-driver", "Pod", "Succeeded", members, template="system-dag-driver")
        inner = self._add(parent, base, "DAG", self._phase(members), members)
        self._tasks(component["dag"], inner, place, suffix, inner_scope)
        for name, exit_task in dag["tasks"].items():
            if is_exit_task(exit_task) and key in exit_task["dependentTasks"]:
                self._exit_hook(name, exit_task, dag, parent, base, path, key)

    def _exit_hook(self, name: str, task: Any, dag: Any, parent: str, base: str, path: str, key: str) -> None:
        index = next(at for at, each in enumerate(self.workflow.places) if each.path == f"{path}.{key}.onExit.{name}")
        if self._has_started(index):
            hook = self._add(parent, f"{base}.onExit", "DAG", self._phase([index]), [index])
            self._container(index, hook, f"{hook}.{name}", task)

    def _loop(
        self, task: Any, component: Any, parent: str, base: str, place: str, suffix: str, scope: Any, members: list[int]
    ) -> None:
        inner = self._add(parent, base, "DAG", self._phase(members), members)
        self._add(inner, f"{inner}.iteration-driver", "Pod", "Succeeded", members, template="system-dag-driver")
        group = self._add(inner, f"{inner}.iteration-iterations", "TaskGroup", self._phase(members), members)
        for index, item in enumerate(rounds(task, scope)):
            ring = f"{place}.iteration-iterations({index}:{index})"
            of_round = [at for at in members if self.workflow.places[at].path.startswith(f"{ring}.")]
            if not any(self._has_started(at) for at in of_round):
                continue
            name = f"{inner}.iteration-iterations({index}:{index})"
            outer = self._add(group, name, "DAG", self._phase(of_round), of_round)
            self._add(
                outer, f"{outer}.iteration-item-driver", "Pod", "Succeeded", of_round, template="system-dag-driver"
            )
            innermost = self._add(outer, f"{outer}.iteration-item", "DAG", self._phase(of_round), of_round)
            bound = {**scope, task["parameterIterator"]["itemInput"]: item}
            self._tasks(component["dag"], innermost, f"{ring}.iteration-item", suffix, bound)

    def _container(self, index: int, parent: str, base: str, task: Any) -> None:
        flow, label = self.workflow, self.workflow.labels[index]
        driver, impl = "system-container-driver", "system-container-impl"
        if label in flow.stuck:
            self._add(parent, f"{base}-driver", "Pod", self._phase([index]), [index], template=driver,
                      message="main: Error (exit code 1)" if self._has_ended(index) else "")  # fmt: skip
            if self._has_ended(index):
                self._add(parent, base, "Skipped", "Omitted", [index], message=OMITTED)
            return
        self._add(parent, f"{base}-driver", "Pod", "Succeeded", [index], template=driver)
        inner = self._add(f"{base}-driver", base, "DAG", self._phase([index]), [index])
        executor = f"{inner}.executor"
        if label in flow.reused:
            self._add(inner, executor, "Skipped", "Skipped", [index], message="when 'true != true' evaluated false")
            return
        message = {"Failed": "main: Error (exit code 1)"}.get(self._phase([index]), "")
        if flow.end in ("FAILED", "CANCELED") and index == flow.at:
            message = "main: Error (exit code 143)"
        phase = self._phase([index])
        if label in flow.held and index == flow.at and not flow.end:
            phase, message = "Pending", flow.held[label]
        has_attempts = "retryPolicy" in task
        self._add(inner, executor, "Pod", phase, [index], message=message, has_attempts=has_attempts,
                  template=f"retry-{impl}" if has_attempts else impl, earlier=label in flow.retried,
                  queue=flow.queues.get(label))  # fmt: skip

    def _add(
        self, parent: str | None, name: str, kind: str, phase: str, members: Any, *, message: str = "",
        template: str = "graph", has_attempts: bool = False, earlier: bool = False, queue: str | None = None,
    ) -> str:  # fmt: skip
        """Adds a node, and its attempts where it has some; the name of what hangs below it."""
        begin = START + timedelta(seconds=100 * min(members))
        over = all(self._has_ended(index) for index in members) and phase not in ("Running", "Pending")
        took = 1 if all(self.workflow.labels[index] in self.workflow.reused for index in members) else 75
        end = START + timedelta(seconds=100 * max(members) + took) if over or phase == "Succeeded" else None
        if phase == "Succeeded" and name.endswith("-driver"):
            end = begin
        if kind == "Skipped":
            begin = end = begin if phase == "Skipped" else self.workflow.now
        labels = [{"name": "pod-metadata-label-key-1", "value": "kueue.x-k8s.io/queue-name"},
                  {"name": "pod-metadata-label-val-1", "value": queue}] if queue else []  # fmt: skip
        is_wrapped = (self.workflow.is_wrapped or has_attempts) and kind in ("Pod", "DAG")
        own = [(name, "Retry" if is_wrapped else kind, phase, message, begin, end)]
        if is_wrapped and earlier:
            own.append(
                (f"{name}(0)", kind, "Failed", "main: Error (exit code 1)", begin, begin + timedelta(seconds=20))
            )
            own.append((f"{name}(1)", kind, phase, message, begin + timedelta(seconds=40), end))
        elif is_wrapped:
            own.append((f"{name}(0)", kind, phase, message, begin, end))
        for each, type_, outcome, said, started, ended in own:
            self.made[self.workflow.id(each)] = {
                "id": self.workflow.id(each),
                "name": each,
                "displayName": each.rpartition(".")[2],
                "type": type_,
                "templateName": template,
                "phase": outcome,
                "message": said,
                "startedAt": started.isoformat(),
                "finishedAt": ended.isoformat() if ended else None,
                "inputs": {"parameters": labels},
                "children": [self.workflow.id(child) for child, *_ in own[1:]] if each == name else [],
            }
        above = self.made.get(self.workflow.id(self._newest(parent))) if parent else None
        if above:
            above["children"].append(self.workflow.id(name))
        return own[-1][0]

    def _newest(self, name: str) -> str:
        number = 0
        while self.workflow.id(f"{name}({number})") in self.made:
            number += 1
        return f"{name}({number - 1})" if number else name

    def _has_started(self, index: int) -> bool:
        return index <= self.workflow.at and self.workflow._runs(index)

    def _has_ended(self, index: int) -> bool:
        flow = self.workflow
        return index < flow.at or (flow.end in ("FAILED", "CANCELED") and index <= flow.at) or not flow._runs(index)

    def _is_over(self, members: Any) -> bool:
        """Whether it is known that none of these steps will run."""
        flow = self.workflow
        ended = flow.end in ("FAILED", "CANCELED")
        return ended or (flow._has_failed() and not any(flow._runs(index) for index in members))

    def _phase(self, members: Any) -> str:
        flow = self.workflow
        if flow.end in ("FAILED", "CANCELED") and any(index >= flow.at for index in members):
            return "Failed"
        if not all(self._has_ended(index) for index in members):
            return "Running"
        return "Failed" if any(index in members for index in (*flow.failing, *flow.omitted)) else "Succeeded"


def places(
    spec: Mapping[str, Any],
    dag: Mapping[str, Any],
    path: str,
    suffix: str,
    scope: Mapping[str, Any],
    outer: tuple[str, ...] = (),
) -> Iterator[Place]:
    """The steps of a package in an order in which they may run; `outer` is what all of them need."""
    done: list[str] = []
    while len(done) < len(dag["tasks"]):
        for key, task in sorted(dag["tasks"].items()):
            if key in done or not set(task.get("dependentTasks", [])) <= set(done):
                continue
            done.append(key)
            component = spec["components"][task["componentRef"]["name"]]
            place = f"{path}.{task['dependentTasks'][-1]}.onExit.{key}" if is_exit_task(task) else f"{path}.{key}"
            needs = (*outer, *(f"{path}.{each}" for each in task.get("dependentTasks", [])))
            if "dag" not in component:
                yield Place(task["taskInfo"]["name"] + suffix, place, task, needs)
                continue
            inner = passed(task, scope)
            if "parameterIterator" not in task:
                yield from places(spec, component["dag"], place, suffix, inner, needs)
                continue
            for index, item in enumerate(rounds(task, inner)):
                bound = {**inner, task["parameterIterator"]["itemInput"]: item}
                ring = f"{place}.iteration-iterations({index}:{index}).iteration-item"
                yield from places(spec, component["dag"], ring, f"{suffix} {item['name']}", bound, needs)


def is_below(path: str, place: str) -> bool:
    """Whether a path is that place or one in it."""
    return path == place or path.startswith(f"{place}.")


def is_exit_task(task: Mapping[str, Any]) -> bool:
    """Whether a task runs whatever became of those before it."""
    return task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"


def passed(task: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a task hands on of those that it was given."""
    inputs = task.get("inputs", {}).get("parameters", {})
    return {name: scope.get(source.get("componentInputParameter")) for name, source in inputs.items()}


def rounds(task: Mapping[str, Any], scope: Mapping[str, Any]) -> list[Any]:
    """The items of a loop."""
    return list(scope[task["parameterIterator"]["items"]["inputParameter"]])


def plain(name: str) -> str:
    """A node's name without the numbers of attempts, which end in `)` but hold no colon."""
    kept, _, rest = name.partition("(")
    while rest:
        number, _, rest = rest.partition(")")
        kept += "" if number.isdigit() else f"({number})"
        head, _, rest = rest.partition("(")
        kept += head
    return kept
