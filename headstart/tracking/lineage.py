"""Where a registered model came from, and what came from it."""

from typing import TYPE_CHECKING, Any

from headstart.tracking.client import explained
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


def lineage(client: "MlflowClient", uri: str) -> dict[str, Any]:
    """The family of the version that `uri` names, as JSON values.

    Keys: model, version, digest, role, strategy, aliases; source, the same for what it came from, up to the first
    model that is not in the registry (which has only uri and digest), or None; descendants, the same, downwards.
    """
    version = find_version(client, uri)
    return {
        **_facts(version),
        "source": _ancestors(client, version),
        "descendants": _descendants(client, version, seen={(version.name, str(version.version))}),
    }


def _facts(version: Any) -> dict[str, Any]:
    return {
        "model": version.name,
        "version": str(version.version),
        "digest": version.tags.get(MODEL_DIGEST),
        "role": version.tags.get(ROLE) or None,
        "strategy": version.tags.get(STRATEGY) or None,
        "aliases": sorted(version.aliases),
    }


def _ancestors(client: "MlflowClient", version: Any) -> dict[str, Any] | None:
    source = version.tags.get(SOURCE_MODEL)
    if not source:
        return None
    if not source.startswith("models:/"):
        return {"uri": source, "digest": version.tags.get(SOURCE_DIGEST)}
    found = find_version(client, source)
    return {**_facts(found), "source": _ancestors(client, found)}


def _descendants(client: "MlflowClient", version: Any, seen: set[tuple[str, str]]) -> list[dict[str, Any]]:
    family = []
    for key in sorted(version.tags):
        if not key.startswith(DESCENDANT_PREFIX):
            continue
        name, _, number = key.removeprefix(DESCENDANT_PREFIX).rpartition("/")
        # A version cannot descend from itself, but tags can be edited by hand: no loop may hang the reader.
        if (name, number) in seen:
            continue
        seen.add((name, number))
        with explained():
            child = client.get_model_version(name, number)
        family.append({**_facts(child), "descendants": _descendants(client, child, seen)})
    return family
