"""Metadata of artifacts: facts beside an artifact's content that one step writes and the next one reads.

Kubeflow Pipelines stores this metadata as text and numbers, which changes it: a boolean becomes 0 or 1, a list
`{"list": […]}`, a mapping `{"struct": {…}}`, and the store adds keys of its own. A value that is None, NaN or infinite
fails the step that wrote it, after all of its work.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

# Keys that the store adds to every artifact.
_ADDED = {"display_name", "store_session_info"}


class Artifact(Protocol):
    """An object with metadata, as each artifact of Kubeflow Pipelines."""

    metadata: dict[str, Any]


def describe(artifact: Artifact, **values: Any) -> None:
    """Add `values` to the artifact's metadata. None, NaN and infinite values are left out, because the store refuses
    them.

    Metadata pass through every driver and are stored with the run several times; larger values belong in a file.
    """
    artifact.metadata.update({key: _finite(value) for key, value in values.items() if _finite(value) is not None})


def described(artifact: Artifact) -> dict[str, Any]:
    """Return the values that `describe` added, whether or not they passed through the store; booleans may be 0 or 1."""
    return {key: _unwrapped(value) for key, value in artifact.metadata.items() if key not in _ADDED}


def _finite(value: Any) -> Any:
    """Return the value with each NaN or infinity in it replaced by None."""
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
