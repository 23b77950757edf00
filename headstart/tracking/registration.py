"""Registration: create a version of a registered model from a bundle; idempotent by the bundle's digest."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.judging.evidence import Evidence
from headstart.models.reference import numbered, unpinned
from headstart.tracking.client import explained, ignoring
from headstart.tracking.logged_model import logged_model, show_on_run, write_once
from headstart.tracking.model_card import card, model_card
from headstart.tracking.names import (
    CHALLENGER,
    CHAMPION,
    DATA_DIGEST,
    DESCENDANT_PREFIX,
    MODEL_DIGEST,
    ROLE,
    SOURCE_DIGEST,
    SOURCE_MODEL,
    STRATEGY,
    TEST_DIGEST,
    TRAIN_DIGEST,
)
from headstart.tracking.registry import Registered, find_version, latest_version
from headstart.tracking.runs import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from headstart.models.bundle import ModelBundle


@explained()
def register(
    run: Run,
    bundle: Path,
    *,
    model: str,
    evidence: Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    trained_by: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Registered:
    """Make the bundle a version of `model`, or find the version that already holds it and complete it.

    The version holds the bundle, what `Evidence.save` wrote to `evidence`, and the resolved `recipe`. Its tags give
    role, strategy, digests and source, its description is the model card. If the source is registered, its version gets
    a tag that names this one. There is one version in the end, even if earlier calls were killed or the same call is
    made concurrently.

    `aliases` move to the version only if it is the model's newest, so that repeating an old run takes them from no
    later version. The champion does not become its own challenger.

    Args:
        trained_by: the run whose metrics the version's page shows; default: `run`.

    Raises:
        InputError: the bundle or the evidence is damaged.
    """
    from headstart.models.bundle import ModelBundle, bundle_digest

    client = run.client
    loaded = ModelBundle.load(bundle)
    digest = bundle_digest(bundle)
    proof = Evidence.load(evidence) if evidence else None
    loaded = _numbered(client, loaded)
    tags = _tags(loaded, digest, proof)
    version = _version_with(client, model, digest)
    if version is None:
        logged = logged_model(
            client,
            trained_by or run.id,
            bundle,
            loaded,
            digest,
            evidence=evidence,
            figures=proof.figures if proof else {},
            recipe=recipe,
        )
        version = _version_of(client, model, logged, tags)
    registered = Registered(model, str(version.version), digest)
    _complete(client, version, tags, card(registered.uri, digest, loaded, proof))
    _link_to_source(client, registered, loaded)
    _move_aliases(client, registered, aliases)
    return registered


def _version_with(client: "MlflowClient", model: str, digest: str) -> "ModelVersion | None":
    """Return the first version with the digest.

    Later ones come from concurrent registrations that were killed before they found each other; they are deleted unless
    they have an alias.
    """
    found = client.search_model_versions(f"name = '{model}' and tags.`{MODEL_DIGEST}` = '{digest}'")
    ordered = sorted(found, key=lambda version: int(version.version))
    for later in ordered[1:]:
        # Its creator may have deleted it already.
        with ignoring("RESOURCE_DOES_NOT_EXIST"):
            # Search results have no aliases.
            if not client.get_model_version(model, later.version).aliases:
                client.delete_model_version(model, later.version)
    return ordered[0] if ordered else None


def _version_of(client: "MlflowClient", model: str, logged: "LoggedModel", tags: dict[str, str]) -> "ModelVersion":
    """Return the version that holds the logged model, for example one made by hand; else create it, with its tags."""
    import mlflow

    with ignoring("RESOURCE_ALREADY_EXISTS"):
        client.create_registered_model(model, description=model_card(model, tags.get(ROLE, "")))
    for version in client.search_model_versions(f"name = '{model}' and run_id = '{logged.source_run_id}'"):
        if version.source == logged.model_uri:
            return version
    # A local store resolves the logged model at MLflow's global address instead of the client's.
    mlflow.set_tracking_uri(client.tracking_uri)
    made = client.create_model_version(
        model, logged.model_uri, run_id=logged.source_run_id, tags=tags, model_id=logged.model_id
    )
    # Concurrent registrations of the same content search again too, and all use the first version.
    version = _version_with(client, model, tags[MODEL_DIGEST]) or made
    if version.source != logged.model_uri:
        client.delete_logged_model(logged.model_id)
    return version


def _tags(loaded: "ModelBundle", digest: str, evidence: Evidence | None) -> dict[str, str]:
    """Return the version's tags. The model's digest is last: a version that has it has all of them."""
    known = loaded.provenance
    source = known.get("source")
    tags = {
        ROLE: known.get("role"),
        STRATEGY: known.get("strategy"),
        DATA_DIGEST: known.get("data_digest"),
        TRAIN_DIGEST: known.get("train_digest"),
        TEST_DIGEST: evidence.digests.get("test_digest") if evidence else None,
        SOURCE_MODEL: unpinned(source) if source else None,
        SOURCE_DIGEST: known.get("source_digest") if source else None,
        MODEL_DIGEST: digest,
    }
    return {key: str(value) for key, value in tags.items() if value}


def _numbered(client: "MlflowClient", loaded: "ModelBundle") -> "ModelBundle":
    """Return the bundle with its source named by version number, if it was referenced by digest before."""
    source, digest = loaded.provenance.get("source"), loaded.provenance.get("source_digest")
    if source and digest and "/sha256:" in source:
        with contextlib.suppress(InputError):
            version = find_version(client, source)
            reference = Registered(version.name, str(version.version), digest).reference
            return replace(loaded, provenance={**loaded.provenance, "source": numbered(source, reference)})
    return loaded


def _complete(client: "MlflowClient", version: "ModelVersion", tags: dict[str, str], description: str) -> None:
    """Add what the version lacks. What it has stays, because a person may have edited it."""
    model_id = str(version.source).removeprefix("models:/")
    if model_id.startswith("m-") and version.run_id:
        show_on_run(client, version.run_id, model_id)
    if not version.description:
        client.update_model_version(version.name, version.version, description)
    for key, value in tags.items():
        if not version.tags.get(key):
            _set_tag(client, version, key, value)


def _set_tag(client: "MlflowClient", version: "ModelVersion", key: str, value: str) -> None:
    name, number = version.name, version.version
    write_once(
        lambda: client.set_model_version_tag(name, number, key, value),
        lambda: client.get_model_version(name, number).tags.get(key) == value,
    )


def _set_alias(client: "MlflowClient", registered: Registered, alias: str) -> None:
    name, number = registered.model, registered.version
    write_once(
        lambda: client.set_registered_model_alias(name, alias, number),
        lambda: alias in client.get_model_version(name, number).aliases,
    )


def _link_to_source(client: "MlflowClient", registered: Registered, loaded: "ModelBundle") -> None:
    """Write a tag that names the version to its source's version; do nothing if that is not in the registry."""
    source = loaded.provenance.get("source")
    if not (source and source.startswith("models:/")):
        return
    try:
        origin = find_version(client, unpinned(source))
    except InputError:
        return
    key = f"{DESCENDANT_PREFIX}{registered.model}/{registered.version}"
    # In a registry that was set up again, another model may have the same name and number.
    if origin.tags.get(MODEL_DIGEST) == loaded.provenance.get("source_digest") and key not in origin.tags:
        _set_tag(client, origin, key, registered.digest)


def _move_aliases(client: "MlflowClient", registered: Registered, aliases: tuple[str, ...]) -> None:
    name, number = registered.model, registered.version
    if not aliases or str(latest_version(client, name).version) != number:
        return
    held = client.get_model_version(name, number).aliases
    for alias in aliases:
        if alias not in held and not (alias == CHALLENGER and CHAMPION in held):
            _set_alias(client, registered, alias)
