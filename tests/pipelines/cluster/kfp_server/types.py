"""The types of parameters, as KFP's API server checks those of a run, and its drivers those of each task."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.pipelines.cluster.kfp_server.store import Refused

KINDS = {"STRING": str, "BOOLEAN": bool, "NUMBER_INTEGER": (int, float), "NUMBER_DOUBLE": (int, float), "LIST": list,
         "STRUCT": dict}  # fmt: skip


def check_parameters(spec: Mapping[str, Any], given: Mapping[str, Any] | None) -> None:
    """Refuses a run whose parameters are not those of its pipeline; source: validatePipelineJobInputs in KFP."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if declared and given is None:
        raise Refused(400, "Invalid input error: pipeline requiring input has no parameter(s) provided")
    given = given or {}
    for name, each in declared.items():
        if name not in given and not each.get("isOptional") and "defaultValue" not in each:
            raise Refused(400, f"Invalid input error: parameter {name} is not optional, yet has neither default value "
                               "nor user provided value")  # fmt: skip
        kind = each["parameterType"]
        if name in given and not _is(given[name], kind):
            raise Refused(400, f"Invalid input error: input parameter {name} requires type {kind}")
    if unknown := given.keys() - declared.keys():
        raise Refused(400, f"Invalid input error: parameter {min(unknown)} is no input of the pipeline")


def mistyped(spec: Mapping[str, Any]) -> Iterator[str]:
    """The components that a task gives a parameter of another type than they declare: their drivers fail."""
    for component in [spec["root"], *spec["components"].values()]:
        outer = component.get("inputDefinitions", {}).get("parameters", {})
        tasks = component.get("dag", {}).get("tasks", {})
        for task in tasks.values():
            name = task["componentRef"]["name"]
            declared = spec["components"][name].get("inputDefinitions", {}).get("parameters", {})
            for parameter, source in task.get("inputs", {}).get("parameters", {}).items():
                wanted = declared[parameter]["parameterType"]
                if not _fits(_type(spec, tasks, outer, source), wanted):
                    yield name


def _type(spec: Mapping[str, Any], tasks: Mapping[str, Any], outer: Mapping[str, Any], source: Any) -> str | None:
    """The type of what a task is given; None where it is decided later."""
    if "componentInputParameter" in source and "parameterExpressionSelector" not in source:
        return outer[source["componentInputParameter"]]["parameterType"]
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        producer = spec["components"][tasks[output["producerTask"]]["componentRef"]["name"]]
        return producer["outputDefinitions"]["parameters"][output["outputParameterKey"]]["parameterType"]
    if "runtimeValue" in source:
        value = source["runtimeValue"]["constant"]
        return next(kind for kind in KINDS if _is(value, kind))
    return None


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, KINDS[kind]) and (kind == "BOOLEAN" or not isinstance(value, bool))


def _fits(given: str | None, wanted: str) -> bool:
    # Whatever goes into a string is written as text.
    numbers = {"NUMBER_INTEGER", "NUMBER_DOUBLE"}
    return given is None or wanted in ("STRING", "TASK_FINAL_STATUS", given) or {given, wanted} <= numbers
