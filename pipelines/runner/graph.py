"""The graph of a compiled package, carried out: tasks in their order, those that do not depend on each other at once.

Conditions, loops, collected outputs, exit tasks and graphs in graphs mean what they mean on a cluster. After a failure
what runs is finished, nothing further is started, and exit tasks run.
"""

import functools
import json
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, InputError
from headstart_pipelines.runner.artifact import Artifact, whole_numbers
from headstart_pipelines.runner.expressions import holds, part
from headstart_pipelines.runner.package import Package, Task, Values

SUCCEEDED, FAILED, SKIPPED = "SUCCEEDED", "FAILED", "SKIPPED"

Outputs = dict[str, Any]
"""A component's output parameters and artifacts; an artifact's value is an Artifact or a list of them."""


class StepFailedError(HeadstartError):
    """A step failed; the journal knows which and why."""


@dataclass(frozen=True)
class Call:
    """A component that is to be run as a step.

    Args:
        key: the task's in its graph.
        name: as people see it.
        component: the component's key in the package, and `spec` what it is.
        given: input parameters and artifacts.
        folder: for what it makes; it does not exist yet.
        cached: whether an equal step's results may be taken over.
        is_wanted: whether the run still needs it, which a failure or an interrupt elsewhere changes.
    """

    key: str
    name: str
    component: str
    spec: Values
    given: Mapping[str, Any]
    folder: Path
    cached: bool
    is_wanted: Callable[[], bool]

    def message(self) -> dict[str, Any]:
        """The executor input, as JSON values."""
        inputs = self.spec.get("inputDefinitions", {})
        outputs = self.spec.get("outputDefinitions", {})
        parameters = {name: self.given[name] for name in inputs.get("parameters", {}) if name in self.given}
        artifacts = {name: self.given[name] for name in inputs.get("artifacts", {}) if name in self.given}
        made = self.outputs()
        return {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {
                    name: {"artifacts": [each.message() for each in (found if isinstance(found, list) else [found])]}
                    for name, found in artifacts.items()
                },
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(self.folder / name)} for name in outputs.get("parameters", {})},
                "artifacts": {name: {"artifacts": [artifact.message()]} for name, artifact in made.items()},
                "outputFile": str(self.output_file),
            },
        }

    def outputs(self) -> dict[str, Artifact]:
        """The artifacts that it is to make."""
        declared = self.spec.get("outputDefinitions", {}).get("artifacts", {})
        kinds = {name: each["artifactType"] for name, each in declared.items()}
        return {
            name: Artifact(name, str(self.folder / name), kind["schemaTitle"], kind["schemaVersion"])
            for name, kind in kinds.items()
        }

    @property
    def output_file(self) -> Path:
        return self.folder / "executor_output.json"

    def made(self) -> Outputs:
        """What it put out, as its output file has it.

        Raises:
            HeadstartError: a declared parameter is missing.
        """
        told = json.loads(self.output_file.read_text()) if self.output_file.is_file() else {}
        declared = self.spec.get("outputDefinitions", {}).get("parameters", {})
        found: Outputs = {name: _typed(each, told["parameterValues"][name]) for name, each in declared.items()
                          if name in told.get("parameterValues", {})}  # fmt: skip
        if missing := declared.keys() - found.keys():
            raise HeadstartError(f"The step did not put out its parameter {min(missing)}.")
        for name, artifact in self.outputs().items():
            (each,) = told.get("artifacts", {}).get(name, {}).get("artifacts", [{}])
            found[name] = Artifact(
                each.get("name", name),
                each.get("uri", artifact.uri),
                artifact.title,
                artifact.version,
                metadata_of(name, whole_numbers(each.get("metadata", {}))),
            )
        return found


def metadata_of(name: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of the artifact `name` as the next step gets them: here as they were written."""
    return metadata


@dataclass
class Graph:
    """A package's graph while it runs.

    Args:
        folder: where steps keep what they make.
        run: runs a step and returns its outputs, or raises StepFailedError; called in several threads at once.
    """

    package: Package
    folder: Path
    run: Callable[[Call], Outputs]
    _ending: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        # One that several tasks share needs a folder for each.
        self._uses = Counter(task.component for task in self.package.tasks)

    def carry_out(self, arguments: Mapping[str, Any]) -> Outputs:
        """Run the pipeline and return its outputs.

        Raises:
            InputError: an argument is missing or unknown, or the package has what a local run does not know.
            StepFailedError: a step failed.
        """
        declared = self.package.root.get("inputDefinitions", {}).get("parameters", {})
        if unknown := arguments.keys() - declared.keys():
            raise InputError(f"The pipeline {self.package.name} has no parameter {min(unknown)}; remove it.")
        return self._graph(self.package.root, _with_defaults(declared, arguments), self.folder, "")

    def stop(self) -> None:
        """Start nothing more, not even an exit task."""
        self._stopped.set()

    def _graph(self, component: Values, given: Mapping[str, Any], folder: Path, label: str) -> Outputs:
        waiting = {key: Task(key, spec) for key, spec in component["dag"]["tasks"].items()}
        scope = _Scope(given)
        ended: queue.SimpleQueue[tuple[str, Future[Outputs | None]]] = queue.SimpleQueue()
        running, failure, is_cut = 0, None, False
        while True:
            for key, task in list(waiting.items()):
                if any(name not in scope.states for name in task.after):
                    continue
                del waiting[key]
                is_cut |= not self._is_wanted(task)
                if self._is_wanted(task) and (task.is_exit or _have_succeeded(task.after, scope)):
                    running += 1
                    self._start(task, scope, folder, label, ended)
                else:
                    scope.states[key] = SKIPPED
            if not running:
                if any(scope.states.keys() >= set(task.after) for task in waiting.values()):
                    continue
                break
            key, future = ended.get()
            running -= 1
            if error := future.exception():
                self._ending.set()
                scope.states[key], failure = FAILED, failure or error
                continue
            outputs = future.result()
            scope.states[key] = SKIPPED if outputs is None else SUCCEEDED
            scope.outputs[key] = outputs or {}
        if failure:
            raise failure
        if is_cut:
            raise StepFailedError("The run has ended before this graph did.")
        return _outputs(component, scope)

    def _is_wanted(self, task: Task) -> bool:
        """Whether nothing has ended the run for a task."""
        return not self._stopped.is_set() and (task.is_exit or not self._ending.is_set())

    def _start(
        self,
        task: Task,
        scope: "_Scope",
        folder: Path,
        label: str,
        ended: "queue.SimpleQueue[tuple[str, Future[Outputs | None]]]",
    ) -> None:
        future: Future[Outputs | None] = Future()

        def work() -> None:
            try:
                future.set_result(self._task(task, scope, folder, label))
            except BaseException as error:
                future.set_exception(error)
            ended.put((task.key, future))

        threading.Thread(target=work, name=task.key, daemon=True).start()

    def _task(self, task: Task, scope: "_Scope", folder: Path, label: str) -> Outputs | None:
        """A task's outputs; None for one whose condition does not hold."""
        given = scope.given(task)
        if task.condition and not holds(task.condition, given):
            return None
        component = self.package.component(task)
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        if "parameterIterator" not in task.spec:
            return self._component(task, component, _with_defaults(declared, given), folder, label)
        iterator = task.spec["parameterIterator"]
        items = _items(iterator, given)
        limit = task.spec.get("iteratorPolicy", {}).get("parallelismLimit") or len(items)
        turns = threading.Semaphore(max(1, limit))

        def iteration(number: int, item: Any) -> Outputs:
            own = _with_defaults(declared, {**given, iterator["itemInput"]: item})
            named = f"{label} {item['name']}" if isinstance(item, Mapping) and "name" in item else label
            return self._component(task, component, own, folder / f"{task.key}-iteration-{number}", named)

        works = [functools.partial(iteration, number, item) for number, item in enumerate(items)]
        rounds = _at_once(works, turns)
        return _collected(component, rounds)

    def _component(self, task: Task, component: Values, given: Mapping[str, Any], folder: Path, label: str) -> Outputs:
        shared = self._uses[task.component] > 1
        if "dag" in component:
            return self._graph(component, given, folder / task.key if shared else folder, label)
        place = folder / (task.key if shared else task.component.removeprefix("comp-"))
        return self.run(
            Call(
                key=task.key,
                name=task.name + label,
                component=task.component,
                spec=component,
                given=given,
                folder=place,
                cached=task.is_cached,
                is_wanted=lambda: self._is_wanted(task),
            )
        )


@dataclass
class _Scope:
    """Where the inputs of a graph's tasks come from: the graph's own, and what tasks beside them put out."""

    inputs: Mapping[str, Any]
    outputs: dict[str, Outputs] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def given(self, task: Task) -> dict[str, Any]:
        """The values of a task's inputs, without those that have none."""
        inputs = task.spec.get("inputs", {})
        found = {name: self._parameter(source) for name, source in inputs.get("parameters", {}).items()}
        found = {name: _filled(value, found) for name, value in found.items() if value is not None}
        artifacts = {name: self._artifact(source) for name, source in inputs.get("artifacts", {}).items()}
        return {**found, **{name: value for name, value in artifacts.items() if value is not None}}

    def _parameter(self, source: Values) -> Any:
        match source:
            case {"runtimeValue": {"constant": value}}:
                value = whole_numbers(value)
            case {"componentInputParameter": name}:
                value = self.inputs.get(name)
            case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}:
                value = self.outputs.get(task, {}).get(key)
            case {"taskFinalStatus": {"producerTask": task}}:
                state = self.states[task]
                value = {"state": state, "pipelineTaskName": task, "pipelineJobResourceName": "local", "error": {}}
            case _:
                raise InputError(f"The package has an input of a kind that no local run knows: {', '.join(source)}.")
        selector = source.get("parameterExpressionSelector")
        return part(selector, value) if selector and value is not None else value

    def _artifact(self, source: Values) -> Any:
        match source:
            case {"componentInputArtifact": name}:
                return self.inputs.get(name)
            case {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}:
                return self.outputs.get(task, {}).get(key)
        raise InputError(f"The package has an input of a kind that no local run knows: {', '.join(source)}.")


def _have_succeeded(keys: Iterable[str], scope: _Scope) -> bool:
    return all(scope.states[key] == SUCCEEDED for key in keys)


def _filled(value: Any, parameters: Mapping[str, Any]) -> Any:
    """A text with the values of the parameters that it names in place of their names."""
    if not isinstance(value, str) or "{{$.inputs.parameters[" not in value:
        return value
    for name, other in parameters.items():
        text = other if isinstance(other, str) else json.dumps(other)
        value = value.replace(f"{{{{$.inputs.parameters['{name}']}}}}", text)
    return value


def _items(iterator: Values, given: Mapping[str, Any]) -> list[Any]:
    items = iterator["items"]
    found = given[items["inputParameter"]] if "inputParameter" in items else json.loads(items["raw"])
    found = json.loads(found) if isinstance(found, str) else found
    if not isinstance(found, list):
        raise InputError(f"A loop of the package runs over {type(found).__name__}, which is no list.")
    return [whole_numbers(item) for item in found]


def _with_defaults(declared: Values, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a component, its parameters of the declared types and with their defaults."""
    found = dict(given)
    for name, each in declared.items():
        value = given.get(name, each.get("defaultValue"))
        if value is None:
            found.pop(name, None)
            if not each.get("isOptional"):
                raise InputError(f"The parameter {name} has neither a value nor a default; give it a value.")
            continue
        found[name] = _typed(each, value)
    return found


def _typed(declared: Values, value: Any) -> Any:
    """A value of a parameter's type; what goes into a text is written as JSON, as KFP's driver does."""
    kind = declared.get("parameterType")
    if kind == "STRING":
        return value if isinstance(value, str) else json.dumps(whole_numbers(value))
    return int(value) if kind == "NUMBER_INTEGER" else whole_numbers(value)


def _at_once(works: Sequence[Callable[[], Outputs]], turns: AbstractContextManager[Any]) -> list[Outputs]:
    """The results of all works, each in a thread that waits for its turn; the first error once all have ended."""
    futures: list[Future[Outputs]] = [Future() for _ in works]

    def work(function: Callable[[], Outputs], future: Future[Outputs]) -> None:
        try:
            with turns:
                future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threads = [threading.Thread(target=work, args=each, daemon=True) for each in zip(works, futures, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [future.result() for future in futures]


def _collected(component: Values, rounds: list[Outputs]) -> Outputs:
    """The outputs of a loop: a list for each output; lists of artifacts are joined to one."""
    declared = component.get("outputDefinitions", {})
    found: Outputs = {name: [each[name] for each in rounds] for name in declared.get("parameters", {})}
    for name in declared.get("artifacts", {}):
        values = [each[name] for each in rounds]
        found[name] = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return found


def _outputs(component: Values, scope: _Scope) -> Outputs:
    """What a graph puts out of what its tasks did."""
    declared = component["dag"].get("outputs", {})
    found: Outputs = {}
    for name, source in declared.get("parameters", {}).items():
        if "valueFromParameter" in source:
            choices = [source["valueFromParameter"]]
        else:
            choices = source["valueFromOneof"]["parameterSelectors"]
        found[name] = _first(scope, [(each["producerSubtask"], each["outputParameterKey"]) for each in choices])
    for name, source in declared.get("artifacts", {}).items():
        choices = [(each["producerSubtask"], each["outputArtifactKey"]) for each in source["artifactSelectors"]]
        found[name] = _first(scope, choices)
    return {name: value for name, value in found.items() if value is not None}


def _first(scope: _Scope, choices: list[tuple[str, str]]) -> Any:
    """The output of the first of several tasks that has run; None where none has."""
    return next((scope.outputs[task][key] for task, key in choices if key in scope.outputs.get(task, {})), None)


def count_steps(package: Package, arguments: Mapping[str, Any]) -> int:
    """How many steps a run has, as far as that shows beforehand: a loop over what a step puts out counts once."""

    def count(component: Values) -> int:
        total = 0
        for key, spec in component["dag"]["tasks"].items():
            inner = package.component(Task(key, spec))
            total += _rounds(spec, arguments) * (count(inner) if "dag" in inner else 1)
        return total

    return count(package.root)


def _rounds(spec: Values, arguments: Mapping[str, Any]) -> int:
    items = spec.get("parameterIterator", {}).get("items", {})
    if "raw" in items:
        return len(json.loads(items["raw"]))
    known = arguments.get(items.get("inputParameter", "").removeprefix("pipelinechannel--"))
    return len(known) if isinstance(known, list | tuple) else 1
