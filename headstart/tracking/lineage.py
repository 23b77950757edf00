"""Where a registered model came from, and what came from it."""

from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.tracking.names import (
    DESCENDANT_PREFIX,
    MODEL_DIGEST,
    ROLE,
    SOURCE_DIGEST,
    SOURCE_MODEL,
    STRATEGY,
)
from headstart.tracking.registry import find_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def lineage(client: "MlflowClient", uri: str) -> dict[str, Any]:
    """The family of the version that `uri` names, as JSON values.

    Keys: model, version, digest, role, strategy, aliases; source, the same for what it came from, up to the first
    model that is not in the registry (any more), which has only uri and digest, or None; descendants, the same,
    downwards, as far as they are still in the registry.
    """
    version = find_version(client, uri)
    # A version cannot descend from itself, but tags can be edited by hand: whoever was seen is not followed again.
    return {
        **_facts(version),
        "source": _ancestors(client, version, seen={_key(version)}),
        "descendants": _descendants(client, version, seen={_key(version)}),
    }


def _facts(version: "ModelVersion") -> dict[str, Any]:
    return {
        "model": version.name,
        "version": str(version.version),
        "digest": version.tags.get(MODEL_DIGEST),
        "role": version.tags.get(ROLE) or None,
        "strategy": version.tags.get(STRATEGY) or None,
        "aliases": sorted(version.aliases),
    }


def _ancestors(client: "MlflowClient", version: "ModelVersion", seen: set[tuple[str, str]]) -> dict[str, Any] | None:
    source = version.tags.get(SOURCE_MODEL)
    if not source:
        return None
    found = _find(client, source) if source.startswith("models:/") else None
    if found is None or _key(found) in seen:
        return {"uri": source, "digest": version.tags.get(SOURCE_DIGEST)}
    return {**_facts(found), "source": _ancestors(client, found, seen | {_key(found)})}


def _descendants(client: "MlflowClient", version: "ModelVersion", seen: set[tuple[str, str]]) -> list[dict[str, Any]]:
    family = []
    for tag in sorted(version.tags):
        if not tag.startswith(DESCENDANT_PREFIX):
            continue
        child = _find(client, f"models:/{tag.removeprefix(DESCENDANT_PREFIX)}")
        if child is None or _key(child) in seen:
            continue
        seen.add(_key(child))
        family.append({**_facts(child), "descendants": _descendants(client, child, seen)})
    return family


def _find(client: "MlflowClient", uri: str) -> "ModelVersion | None":
    """The version that `uri` names; None where it was deleted."""
    try:
        return find_version(client, uri)
    except InputError:
        return None


def _key(version: "ModelVersion") -> tuple[str, str]:
    return version.name, str(version.version)
