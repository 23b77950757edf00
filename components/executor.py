"""Execution of a component's function: what KFP's executor does with an executor input, without kfp.

Source of the messages: ExecutorInput and ExecutorOutput of KFP's pipeline_spec.proto; tests compare with KFP's own
executor.
"""

import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headstart_components.types import Artifact, PipelineTaskFinalStatus


def execute(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Call a component's function with the inputs and outputs of the executor input `given`, and write its executor
    output: returned parameters, and the artifacts with the metadata that the function gave them."""
    inputs, outputs = given.get("inputs", {}), given["outputs"]
    made = {
        name: _artifact(announced["artifacts"][0], function.__annotations__[name])
        for name, announced in outputs.get("artifacts", {}).items()
    }
    for artifact in made.values():
        Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = dict(made)
    for name, listed in inputs.get("artifacts", {}).items():
        annotation = without_optional(function.__annotations__[name])
        found = [_artifact(each, annotation) for each in listed.get("artifacts", ())]
        arguments[name] = found if _is_list(annotation) else (found[0] if found else None)
    for name, value in inputs.get("parameterValues", {}).items():
        if value is not None and name in function.__annotations__:
            is_status = function.__annotations__[name] is PipelineTaskFinalStatus
            arguments[name] = _final_status(value) if is_status else value
    returned = function(**arguments)
    written: dict[str, Any] = {}
    if returned is not None:
        written["parameterValues"] = {"Output": _checked(function, returned)}
    if made:
        written["artifacts"] = {
            name: {"artifacts": [{"name": each.name, "uri": each.uri, "metadata": each.metadata}]}
            for name, each in made.items()
        }
    file = Path(outputs["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(written))


def without_optional(annotation: Any) -> Any:
    """Return T for the annotation Optional[T]; any other as it is."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (each for each in typing.get_args(annotation) if each is not type(None))
    return annotation


def _artifact(announced: Mapping[str, Any], annotation: Any) -> Artifact:
    """An artifact of the class of its type in the package; where that is not told, of the annotation's."""
    kind = typing.get_args(without_optional(annotation))[0]
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    title = announced.get("type", {}).get("schemaTitle", "")
    kinds = {each.schema_title: each for each in (Artifact, *Artifact.__subclasses__())}
    values = {key: announced.get(key) for key in ("name", "uri", "metadata")}
    return kinds.get(title, kind)(**values)


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(typing.get_args(annotation)[0]) is list


def _final_status(value: Mapping[str, Any]) -> PipelineTaskFinalStatus:
    error = value.get("error", {})
    return PipelineTaskFinalStatus(
        state=value["state"],
        pipeline_job_resource_name=value["pipelineJobResourceName"],
        pipeline_task_name=value["pipelineTaskName"],
        error_code=error.get("code"),
        error_message=error.get("message"),
    )


def _checked(function: Callable[..., Any], returned: Any) -> Any:
    """The returned parameter; TypeError where it is not of the declared type."""
    declared = function.__annotations__.get("return")
    kind = typing.get_origin(declared) or declared
    if not isinstance(kind, type) or not isinstance(returned, (int, float) if kind is float else kind):
        raise TypeError(f"{function.__name__} returned {type(returned).__name__}, but declares {declared}")
    return returned
