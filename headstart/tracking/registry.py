"""The MLflow model registry: versions that know their content, their source and their descendants."""

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.data.tree import one_line
from headstart.errors import HeadstartError, InputError
from headstart.judging.evidence import Evidence
from headstart.models.reference import numbered, pinned, unpinned
from headstart.storage.local import read_json
from headstart.tracking.card import card, model_card
from headstart.tracking.client import connect, explained
from headstart.tracking.logged import BUNDLE, EVIDENCE, EXAMPLE, logged_model, show_on_run, write_once
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
from headstart.tracking.paging import search_all
from headstart.tracking.runs import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from headstart.models.bundle import ModelBundle

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    model: str
    version: str
    digest: str

    @property
    def uri(self) -> str:
        """`models:/name/version`."""
        return f"models:/{self.model}/{self.version}"

    @property
    def reference(self) -> str:
        """The URI pinned to the content, so that a wiped and refilled registry cannot pass for this one."""
        return pinned(self.uri, self.digest)


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
    """Makes the bundle a version of `model`, or finds the version that already holds it and completes what it lacks.

    The version holds the bundle, what `Evidence.save` wrote to `evidence`, and the resolved `recipe`; its tags say
    role, strategy, digests and source, its description what it is. The source's version, where the source is
    registered, gets a tag that names this one. Whatever killed an earlier call, and whoever makes the same call at the
    same time, there is one version in the end. `trained_by` is the run whose metrics the version's page shows, by
    default `run`.

    `aliases` move to the version if it is the model's newest: an old run that is repeated takes them from no later
    version. The champion does not become its own challenger.

    Raises:
        InputError: the bundle or the evidence is damaged.
    """
    from headstart.models.bundle import ModelBundle, bundle_digest

    client = run.client
    loaded = ModelBundle.load(bundle)
    digest = bundle_digest(bundle)
    proof = Evidence.load(evidence) if evidence else None
    with explained():
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


def resolve(uri: str) -> str:
    """`models:/name@alias` or `models:/name/version` as `models:/name/version#sha256=…`.

    Raises:
        InputError: there is no such model, alias or version, or the version was not registered by headstart.
    """
    version = find_version(connect(), uri)
    digest = version.tags.get(MODEL_DIGEST)
    if not digest:
        raise InputError(
            f"{uri} was not registered by headstart (it has no {MODEL_DIGEST} tag), so its content cannot be verified; "
            "choose another source."
        )
    return Registered(version.name, str(version.version), digest).reference


def search(pattern: str) -> list[str]:
    """The pinned references of the models that a search means now, in the order of their names.

    `models:/*-source` is the champion, else the latest version, of every model with such a name; `*` stands for any
    characters and `?` for one. `models:/*-source[domain=medical]` takes those with that tag, of the version or of the
    model; several are separated by commas, and `headstart.` may be left out of a tag's name. What headstart has not
    registered is left out: its content cannot be verified.

    Raises:
        InputError: it is not a search, or finds nothing.
    """
    name, tags = _parts_of(pattern)
    client = connect()
    with explained():
        models = sorted(search_all(client.search_registered_models), key=lambda model: model.name)
    found = []
    for model in models:
        if not name.fullmatch(model.name):
            continue
        try:
            version = find_version(client, f"models:/{model.name}")
        except InputError:
            # A model without a version.
            continue
        held = {**model.tags, **version.tags}
        if any(value not in (held.get(key), held.get(f"headstart.{key}")) for key, value in tags):
            continue
        if digest := version.tags.get(MODEL_DIGEST):
            found.append(Registered(version.name, str(version.version), digest).reference)
        else:
            log.warning("%s finds %s, which headstart has not registered; it is left out.", pattern, model.name)
    if not found:
        known = ", ".join(model.name for model in models) or "none"
        raise InputError(f"{pattern} finds no model that headstart has registered; the registry's models are: {known}.")
    return found


def fetch(uri: str) -> Path:
    """A local directory with the bundle of `models:/name/version`. HeadstartError if it is gone."""
    return _fetched(connect(), uri, BUNDLE)


def stored_example(uri: str) -> list[str] | None:
    """The request that was logged with `models:/name/version`: the content of files as base64 text. None if there is
    none, as what was registered by hand may have none; HeadstartError if it is damaged."""
    from mlflow.artifacts import list_artifacts

    client = connect()
    version = find_version(client, uri)
    with explained():
        location = client.get_model_version_download_uri(version.name, version.version)
        parts = list_artifacts(artifact_uri=location, tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    if not any(Path(part.path).name == EXAMPLE for part in parts):
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = _fetched(client, uri, EXAMPLE, to=folder)
        try:
            return [str(row[0]) for row in read_json(file)["data"]]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise HeadstartError(
                f"The {EXAMPLE} of {uri} is damaged ({type(error).__name__}); restore it from a backup, or register "
                "the model again."
            ) from error


def _fetched(client: "MlflowClient", uri: str, part: str, to: str | None = None) -> Path:
    """A part of what a version holds, on this machine: where it lies or, from a server, in `to` or a new directory."""
    from mlflow.artifacts import download_artifacts
    from requests import RequestException  # type: ignore[import-untyped]

    version = find_version(client, uri)
    with explained():
        location = client.get_model_version_download_uri(version.name, version.version)
        try:
            path = download_artifacts(
                artifact_uri=f"{location.rstrip('/')}/{part}",
                dst_path=to,
                tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
            )
        # Each kind of artifact store raises its own.
        except Exception as error:
            unanswered = error if isinstance(error, RequestException) else error.__context__
            if isinstance(unanswered, RequestException) and unanswered.response is None:
                raise
            raise HeadstartError(
                f"The files of {uri} cannot be fetched ({one_line(error)[:200]}); restore them from a backup, or "
                "register the model again."
            ) from error
    return Path(path)


def evidence(client: "MlflowClient", version: "ModelVersion") -> Evidence:
    """What speaks for the version.

    Raises:
        InputError: it has none, as what was registered by hand has not, or it is damaged.
    """
    from mlflow.artifacts import download_artifacts, list_artifacts

    uri = f"models:/{version.name}/{version.version}"
    with explained():
        location = client.get_model_version_download_uri(version.name, version.version).rstrip("/")
        tracking_uri = os.environ["MLFLOW_TRACKING_URI"]
        parts = list_artifacts(artifact_uri=f"{location}/{Path(EVIDENCE).parent}", tracking_uri=tracking_uri)
        if not any(Path(part.path).name == Path(EVIDENCE).name for part in parts):
            raise InputError(
                f"{uri} has no evidence: it was not registered by a pipeline of headstart; run its recipe again and "
                "register what comes of it."
            )
        with tempfile.TemporaryDirectory() as folder:
            path = download_artifacts(artifact_uri=f"{location}/{EVIDENCE}", dst_path=folder, tracking_uri=tracking_uri)
            return Evidence.load(Path(path))


def find_version(client: "MlflowClient", uri: str) -> "ModelVersion":
    """The version that `models:/name/version`, `models:/name@alias` or `models:/name` (champion, else latest) names; in
    place of its number a version may have the first digits of its content, `sha256:…`."""
    from mlflow.exceptions import MlflowException

    reference = unpinned(uri).removeprefix("models:/")
    name, at, alias = reference.partition("@")
    if not at:
        name, _, number = reference.partition("/")
    try:
        if at:
            return client.get_model_version_by_alias(name, alias)
        if number.startswith("sha256:"):
            query = f"name = '{name}' and tags.`{MODEL_DIGEST}` LIKE '{number}%'"
            number = min((version.version for version in client.search_model_versions(query)), key=int)
        if number:
            return client.get_model_version(name, number)
        model = client.get_registered_model(name)
        if CHAMPION in model.aliases:
            return client.get_model_version_by_alias(name, CHAMPION)
        latest = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])[0]
        # A version that was searched for comes without its aliases.
        return client.get_model_version(name, latest.version)
    except (MlflowException, IndexError, ValueError):
        with explained():
            known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise InputError(
            f"The registry has no models:/{reference}; its models are: {known}. Give a name with a version or an "
            "alias that exists, for example models:/digits-source/1 or models:/digits-target@challenger."
        ) from None


def _parts_of(pattern: str) -> tuple[re.Pattern[str], list[tuple[str, str]]]:
    """The names and the tags that a search is for."""
    form = re.fullmatch(r"models:/([^\[\]/@]+)(?:\[([^\[\]]+)\])?", pattern)
    tags = [tag.partition("=")[::2] for tag in form[2].split(",")] if form and form[2] else []
    if form is None or not all(key and value for key, value in tags):
        raise InputError(
            f"{pattern} is not a search for models; write models:/*-source, or models:/*-source[tag=value] for those "
            "with a tag."
        )
    return re.compile(re.escape(form[1]).replace(r"\*", ".*").replace(r"\?", ".")), tags


def _version_with(client: "MlflowClient", model: str, digest: str) -> "ModelVersion | None":
    """The first version with the digest.

    Later ones come from registrations at the same time that were killed before they saw each other: they are deleted,
    except one that somebody gave an alias.
    """
    found = client.search_model_versions(f"name = '{model}' and tags.`{MODEL_DIGEST}` = '{digest}'")
    ordered = sorted(found, key=lambda version: int(version.version))
    for later in ordered[1:]:
        _delete_version(client, later)
    return ordered[0] if ordered else None


def _version_of(client: "MlflowClient", model: str, logged: "LoggedModel", tags: dict[str, str]) -> "ModelVersion":
    """The version that holds the logged model: one that was made by hand, else a new one, made with its tags."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model, description=model_card(model, tags.get(ROLE, "")))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"name = '{model}' and run_id = '{logged.source_run_id}'"):
        if version.source == logged.model_uri:
            return version
    # A local store looks the logged model up at MLflow's global address and not at the client's.
    mlflow.set_tracking_uri(client.tracking_uri)
    made = client.create_model_version(
        model, logged.model_uri, run_id=logged.source_run_id, tags=tags, model_id=logged.model_id
    )
    # Whoever registers the same content at the same time looks again too, and both take the first version.
    version = _version_with(client, model, tags[MODEL_DIGEST]) or made
    if version.source != logged.model_uri:
        client.delete_logged_model(logged.model_id)
    return version


def _delete_version(client: "MlflowClient", version: "ModelVersion") -> None:
    from mlflow.exceptions import MlflowException

    try:
        # A version that was searched for comes without its aliases.
        if not client.get_model_version(version.name, version.version).aliases:
            client.delete_model_version(version.name, version.version)
    except MlflowException as error:
        # Its maker has deleted it.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _tags(loaded: "ModelBundle", digest: str, evidence: Evidence | None) -> dict[str, str]:
    """The version's tags, the model's digest last: a version that has it has them all."""
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
    """The bundle, whose source is named by its version's number where its maker knew it by its content only."""
    source, digest = loaded.provenance.get("source"), loaded.provenance.get("source_digest")
    if source and digest and "/sha256:" in source:
        with contextlib.suppress(InputError):
            version = find_version(client, source)
            reference = Registered(version.name, str(version.version), digest).reference
            return replace(loaded, provenance={**loaded.provenance, "source": numbered(source, reference)})
    return loaded


def _complete(client: "MlflowClient", version: "ModelVersion", tags: dict[str, str], description: str) -> None:
    """Adds what the version lacks and leaves what it has, which a person may have edited."""
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
    """Names the version on its source's version; a source that is not in the registry any more gets no tag."""
    source = loaded.provenance.get("source")
    if not (source and source.startswith("models:/")):
        return
    try:
        origin = find_version(client, unpinned(source))
    except InputError:
        return
    key = f"{DESCENDANT_PREFIX}{registered.model}/{registered.version}"
    # Under the same name and number, a registry that was set up anew may hold another model.
    if origin.tags.get(MODEL_DIGEST) == loaded.provenance.get("source_digest") and key not in origin.tags:
        _set_tag(client, origin, key, registered.digest)


def _move_aliases(client: "MlflowClient", registered: Registered, aliases: tuple[str, ...]) -> None:
    if not aliases:
        return
    newest = client.search_model_versions(
        f"name = '{registered.model}'", max_results=1, order_by=["version_number DESC"]
    )[0]
    if str(newest.version) != registered.version:
        return
    held = client.get_model_version(registered.model, registered.version).aliases
    for alias in aliases:
        if alias not in held and not (alias == CHALLENGER and CHAMPION in held):
            _set_alias(client, registered, alias)
