"""What Kubeflow Pipelines 2.17 does with a compiled package, step by step in processes on this machine.

kfp.local is modelled on the SDK; this is modelled on the backend, whose answers were recorded on a real cluster. Its
driver checks the type of every parameter and turns whatever goes into a string into JSON text; an artifact's metadata
pass through ML Metadata, which wraps lists and objects, knows no booleans and no null; what a step is given names
neither the artifact's kind nor its name; a pipeline's exit task learns how the rest ended.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# KFP gives each artifact that it has kept these two beside its own metadata.
_SESSION = json.dumps({"Provider": "minio", "Params": {"endpoint": "store.example:9000", "region": "minio"}})

Values = dict[str, Any]
Artifacts = dict[str, list[Values]]


class StepError(Exception):
    """A step, or its driver, failed."""


@dataclass(frozen=True)
class Ended:
    """What a component put out: its parameters, and the lists of its artifacts."""

    parameters: Values = field(default_factory=dict)
    artifacts: Artifacts = field(default_factory=dict)


@dataclass
class Pods:
    """Runs a package's steps in `place`, one process each, with `environment` beside what the package says.

    `started` lists the steps in the order in which they were started, `failed` those that failed, by the names that
    people see.
    """

    package: str
    place: Path
    environment: Mapping[str, str]
    run_id: str
    started: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Ended] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._spec, *platforms = yaml.safe_load_all(self.package)
        executors = platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}
        self._platform: Mapping[str, Any] = executors

    def run(self, parameters: Mapping[str, Any]) -> str:
        """Runs the pipeline and returns the state that the backend gives the run: SUCCEEDED or FAILED."""
        declared = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = parameters.keys() - declared.keys()
        if unknown:
            raise StepError(f"parameter {min(unknown)} is no input of the pipeline")
        given = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
        given |= parameters
        for name, each in declared.items():
            if name not in given and not each.get("isOptional"):
                raise StepError(
                    f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
        try:
            self._dag(self._spec["root"], _checked(declared, given), {}, "")
        except StepError:
            return "FAILED"
        return "SUCCEEDED"

    def _dag(self, component: Values, parameters: Values, artifacts: Artifacts, suffix: str) -> Ended:
        """Runs the tasks of a graph, each after those that it depends on; those beside a failed one are run, too."""
        tasks = component["dag"]["tasks"]
        ended: dict[str, Ended] = {}
        states: dict[str, str] = {}
        error: StepError | None = None
        for key in _in_order(tasks):
            task = tasks[key]
            before = [states.get(name) for name in task.get("dependentTasks", ())]
            always = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            if not always and any(state != "COMPLETE" for state in before):
                states[key] = "OMITTED"
                continue
            scope = _Scope(parameters, artifacts, ended, states)
            try:
                ended[key] = self._task(task, scope, suffix)
                states[key] = "COMPLETE"
            except StepError as failure:
                states[key] = "FAILED"
                error = failure
        if error:
            raise error
        return _outputs(component, ended)

    def _task(self, task: Values, scope: "_Scope", suffix: str) -> Ended:
        component = self._spec["components"][task["componentRef"]["name"]]
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        given = {
            name: value
            for name, source in task.get("inputs", {}).get("parameters", {}).items()
            if (value := scope.parameter(source)) is not None
        }
        artifacts = {
            name: scope.artifact(source) for name, source in task.get("inputs", {}).get("artifacts", {}).items()
        }
        name = task["taskInfo"]["name"] + suffix
        if "parameterIterator" not in task:
            return self._component(component, name, self._driven(name, declared, given), artifacts, suffix)
        iterator = task["parameterIterator"]
        items = given[iterator["items"]["inputParameter"]] if "inputParameter" in iterator["items"] else json.loads(
            iterator["items"]["raw"]
        )  # fmt: skip
        if not items:
            raise StepError(f"{name}: a loop over nothing")
        rounds: list[Ended] = []
        error: StepError | None = None
        for item in items:
            own = self._driven(name, declared, {**given, iterator["itemInput"]: item})
            label = f" {item['name']}" if isinstance(item, Mapping) and "name" in item else ""
            try:
                rounds.append(self._component(component, name, own, artifacts, suffix + label))
            except StepError as failure:
                error = failure
        if error:
            raise error
        return Ended(
            # CollectInputs of the driver: those of each turn in a list.
            parameters={key: [each.parameters[key] for each in rounds] for key in rounds[0].parameters},
            artifacts={key: [one for each in rounds for one in each.artifacts[key]] for key in rounds[0].artifacts},
        )

    def _driven(self, name: str, declared: Values, given: Values) -> Values:
        """The parameters that a driver hands on; a driver that refuses them has failed in its step's place."""
        try:
            return _checked(declared, given)
        except StepError as error:
            self.failed[name] = f"driver: failed to resolve inputs: {error}"
            raise StepError(self.failed[name]) from None

    def _component(self, component: Values, name: str, parameters: Values, artifacts: Artifacts, suffix: str) -> Ended:
        if "dag" in component:
            return self._dag(component, parameters, artifacts, suffix)
        self.started.append(name)
        try:
            ended = self._step(component, name, parameters, artifacts)
        except StepError as failure:
            self.failed[name] = str(failure)
            raise
        self.outputs[name] = ended
        return ended

    def _step(self, component: Values, name: str, parameters: Values, artifacts: Artifacts) -> Ended:
        label = component["executorLabel"]
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        folder = self.place / f"{len(self.started):02}-{name.replace(' ', '-')}"
        folder.mkdir(parents=True)
        outputs = component.get("outputDefinitions", {})
        execution = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {key: {"artifacts": each} for key, each in artifacts.items()},
            },
            "outputs": {
                "parameters": {key: {"outputFile": str(folder / key)} for key in outputs.get("parameters", {})},
                "artifacts": {
                    key: {"artifacts": [{"name": key, "type": each["artifactType"], "uri": str(folder / key)}]}
                    for key, each in outputs.get("artifacts", {}).items()
                },
                "outputFile": str(folder / "output_metadata.json"),
            },
        }
        line = [*container["command"], *container.get("args", ())]
        given = json.dumps(execution)
        done = subprocess.run(
            [part.replace("{{$}}", given) for part in line],
            env={**os.environ, **self._variables(label, container), "PATH": _path()},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        (folder / "log").write_text(done.stdout + done.stderr)
        if done.returncode:
            raise StepError(f"exit status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        return _kept(name, execution, folder / "output_metadata.json", outputs)

    def _variables(self, label: str, container: Values) -> dict[str, str]:
        """A pod's environment: the package's, the pod's own label, what stands for secrets and config maps."""
        own = {each["name"]: each["value"] for each in container.get("env", ())}
        for each in self._platform.get(label, {}).get("fieldPathAsEnv", ()):
            assert each["fieldPath"] == "metadata.labels['pipeline/runid']", each
            own[each["name"]] = self.run_id
        return {**own, **self.environment}


@dataclass(frozen=True)
class _Scope:
    """Where a task's inputs come from: those of its graph, and what the tasks beside it put out."""

    parameters: Values
    artifacts: Artifacts
    ended: Mapping[str, Ended]
    states: Mapping[str, str]

    def parameter(self, source: Values) -> Any:
        """The value of a task's parameter; None where it has none."""
        match source:
            case {"runtimeValue": {"constant": value}}:
                return value
            case {"componentInputParameter": name}:
                return self.parameters.get(name)
            case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}:
                return self.ended[task].parameters[key]
            case {"taskFinalStatus": {"producerTask": task}}:
                return {
                    "error": {},
                    "pipelineJobResourceName": "pipeline-abcde",
                    "pipelineTaskName": task,
                    "state": self.states[task],
                }
        raise StepError(f"an input of a kind that is not known here: {source}")

    def artifact(self, source: Values) -> list[Values]:
        """The artifacts that a task gets for one of its inputs."""
        match source:
            case {"componentInputArtifact": name}:
                return self.artifacts[name]
            case {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}:
                return self.ended[task].artifacts[key]
        raise StepError(f"an input of a kind that is not known here: {source}")


# The kinds of JSON values that may be given to a parameter of a type; source: resolveInputs of KFP's driver.
_TAKES = {
    "NUMBER_DOUBLE": "number",
    "NUMBER_INTEGER": "number",
    "BOOLEAN": "bool",
    "LIST": "list",
    "STRUCT": "struct",
    "TASK_FINAL_STATUS": "struct",
}


def _checked(declared: Values, given: Values) -> Values:
    """The values of a component's parameters, as its driver hands them on."""
    found: Values = {}
    for name, each in declared.items():
        value = given.get(name, each.get("defaultValue"))
        if value is None:
            if not each.get("isOptional"):
                raise StepError(f"neither value nor default value provided for non-optional parameter {name!r}")
            continue
        kind = each["parameterType"]
        if kind == "STRING":
            found[name] = value if isinstance(value, str) else json.dumps(value)
            continue
        if _kind(value) != _TAKES[kind]:
            raise StepError(f'input parameter "{name}" type mismatch: expect {kind}, got {_kind(value)}')
        found[name] = value
    return found


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return {str: "string", list: "list", dict: "struct"}[type(value)]


def _in_order(tasks: Mapping[str, Values]) -> Iterator[str]:
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = [key for key in tasks if key not in done and done >= set(tasks[key].get("dependentTasks", ()))]
        assert ready, "the tasks wait for one another"
        yield from ready
        done |= set(ready)


def _outputs(component: Values, ended: Mapping[str, Ended]) -> Ended:
    """What a graph puts out of what its tasks did."""
    declared = component["dag"].get("outputs", {})
    parameters, artifacts = {}, {}
    for name, source in declared.get("parameters", {}).items():
        chosen = source["valueFromParameter"]
        parameters[name] = ended[chosen["producerSubtask"]].parameters[chosen["outputParameterKey"]]
    for name, source in declared.get("artifacts", {}).items():
        (chosen,) = source["artifactSelectors"]
        artifacts[name] = ended[chosen["producerSubtask"]].artifacts[chosen["outputArtifactKey"]]
    return Ended(parameters, artifacts)


def _kept(name: str, execution: Values, file: Path, outputs: Values) -> Ended:
    """What the launcher reads of what a step wrote, and how the next step gets it."""
    said = json.loads(file.read_text(), parse_constant=_refuse) if file.exists() else {}
    parameters = said.get("parameterValues", {})
    declared = outputs.get("parameters", {})
    if missing := declared.keys() - parameters.keys():
        raise StepError(f"{name}: output parameter {min(missing)} was not written")
    artifacts = {}
    for number, (key, announced) in enumerate(execution["outputs"]["artifacts"].items()):
        (made,) = announced["artifacts"]
        (told,) = said.get("artifacts", {}).get(key, {}).get("artifacts", [{}])
        metadata = kept(name, key, told.get("metadata", {}))
        artifacts[key] = [
            {"name": str(100 + number), "type": {"instanceSchema": ""}, "uri": made["uri"], "metadata": metadata}
        ]
    return Ended(_checked(declared, parameters), artifacts)


def kept(step: str, artifact: str, metadata: Mapping[str, Any]) -> Values:
    """The metadata that a step gave an artifact as the next step reads them."""
    stored = {key: _stored(step, key, value) for key, value in metadata.items()}
    return {**stored, "display_name": artifact, "store_session_info": _SESSION}


def _stored(step: str, key: str, value: Any) -> Any:
    """A value of an artifact's metadata as the next step reads it; source: metadata/converter.go."""
    match value:
        case None:
            raise StepError(f"{step}: metadata {key}: null is not supported")
        case bool():
            return int(value)
        case list():
            return {"list": value}
        case dict():
            return {"struct": value}
        case float() if not math.isfinite(value):
            raise StepError(f"{step}: metadata {key}: {value} is no JSON")
    return value


def _refuse(constant: str) -> Any:
    raise StepError(f"the step's output holds {constant}, which is no JSON")


def _path() -> str:
    """The image's own python3 first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
