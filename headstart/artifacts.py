"""What a step says of an artifact beside its content, written for the next step and read there.

Kubeflow Pipelines keeps this metadata in a store that knows text and numbers. What has passed through it has changed:
a truth value is 0 or 1, a list is `{"list": […]}`, a mapping is `{"struct": {…}}`, and the store has added keys of its
own. A value that is None, NaN or infinite fails the step that wrote it, after all of its work.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

# What the store adds to every artifact.
_ADDED = {"display_name", "store_session_info"}


class Artifact(Protocol):
    """Has metadata, as each artifact of Kubeflow Pipelines."""

    metadata: dict[str, Any]


def describe(artifact: Artifact, **values: Any) -> None:
    """Adds `values` to the artifact's metadata. What is None, NaN or infinite stays out, since the store refuses it.

    Metadata travel through every driver and are kept with the run several times: larger things belong into a file.
    """
    artifact.metadata.update({key: _finite(value) for key, value in values.items() if _finite(value) is not None})


def described(artifact: Artifact) -> dict[str, Any]:
    """The values that `describe` added, with or without the store between; truth values may be 0 or 1."""
    return {key: _unwrapped(value) for key, value in artifact.metadata.items() if key not in _ADDED}


def _finite(value: Any) -> Any:
    """The value with None in the place of each number that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _unwrapped(value: Any) -> Any:
    for wrapper, kind in (("list", list), ("struct", dict)):
        if isinstance(value, dict) and value.keys() == {wrapper} and isinstance(value[wrapper], kind):
            return value[wrapper]
    return value
