"""The Argo workflow of a run: its nodes as argo-workflows names and numbers them."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

NEVER = "0001-01-01T00:00:00Z"
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


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


def places(spec: Mapping[str, Any], dag: Mapping[str, Any], path: str, suffix: str, parameters: Any) -> Iterator[Any]:
    """The steps of a package, as (label, path), in an order in which they may run."""
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
                    yield from places(spec, component["dag"], inner, f" {item['name']}", parameters)
            else:
                yield from places(spec, component["dag"], f"{path}.{key}", suffix, parameters)
