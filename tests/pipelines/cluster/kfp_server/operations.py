"""The operations of KFP's API and the types of what they take, read off kfp_server_api, KFP's own generated client."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kfp_server_api
from kfp_server_api import models

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
