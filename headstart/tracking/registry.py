"""MLflow's model registry, read-only: versions by reference or search, their bundles, evidence and example requests."""

import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.data.tree import one_line
from headstart.errors import HeadstartError, InputError
from headstart.judging.evidence import Evidence
from headstart.models.reference import pinned, unpinned
from headstart.storage.local import read_json
from headstart.tracking.client import connect, explained, search_all
from headstart.tracking.logged_model import BUNDLE, EVIDENCE, EXAMPLE
from headstart.tracking.names import CHAMPION, MODEL_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A registered version."""

    model: str
    version: str
    digest: str

    @property
    def uri(self) -> str:
        """The URI `models:/name/version`."""
        return f"models:/{self.model}/{self.version}"

    @property
    def reference(self) -> str:
        """The URI pinned to the digest, so that a different model under the same name and number is not mistaken for
        it."""
        return pinned(self.uri, self.digest)


def resolve(uri: str) -> str:
    """Pin `models:/name@alias` or `models:/name/version` to `models:/name/version#sha256=…`.

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
    """Return the pinned references of the models that match a search, ordered by name.

    `models:/*-source` matches every model with such a name and gives its champion, or else its latest version; `*`
    stands for any characters and `?` for one. `models:/*-source[domain=medical]` also requires that tag, on the version
    or the model; several are separated by commas, and the prefix `headstart.` of a tag may be omitted. Models that
    headstart has not registered are left out, because their content cannot be verified.

    Raises:
        InputError: the pattern is not a search, or nothing matches.
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
            # The model has no version.
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
    """Return a local directory with the bundle of `models:/name/version`.

    Raises:
        HeadstartError: its files cannot be fetched.
    """
    return _fetched(connect(), uri, BUNDLE)


def stored_example(uri: str) -> list[str] | None:
    """Return the example request of `models:/name/version`: the content of files as base64 text; None if it has none,
    as a model registered by hand may not.

    Raises:
        HeadstartError: the example is damaged.
    """
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
    """Return a local path of one part of a version: the store's own, or a download from a server in `to` or a new
    directory."""
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
        # Each kind of artifact store has its own exceptions.
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
    """Return the version's evidence.

    Raises:
        InputError: it has none, as a version registered by hand, or it is damaged.
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
    """Return the version that `models:/name/version`, `models:/name@alias` or `models:/name` (champion, else latest)
    names.

    Instead of a number, a version may be given by the first digits of its digest, `sha256:…`.

    Raises:
        InputError: there is no such model, version or alias.
    """
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
        # Search results have no aliases.
        return client.get_model_version(name, latest_version(client, name).version)
    except (MlflowException, IndexError, ValueError):
        with explained():
            known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise InputError(
            f"The registry has no models:/{reference}; its models are: {known}. Give a name with a version or an "
            "alias that exists, for example models:/digits-source/1 or models:/digits-target@challenger."
        ) from None


def latest_version(client: "MlflowClient", model: str) -> "ModelVersion":
    """Return the version with the highest number, without its aliases.

    Raises:
        IndexError: there is none.
    """
    return client.search_model_versions(f"name = '{model}'", max_results=1, order_by=["version_number DESC"])[0]


def _parts_of(pattern: str) -> tuple[re.Pattern[str], list[tuple[str, str]]]:
    """Parse a search into a pattern for names and a list of tags.

    Raises:
        InputError: it is not a search.
    """
    form = re.fullmatch(r"models:/([^\[\]/@]+)(?:\[([^\[\]]+)\])?", pattern)
    tags = [tag.partition("=")[::2] for tag in form[2].split(",")] if form and form[2] else []
    if form is None or not all(key and value for key, value in tags):
        raise InputError(
            f"{pattern} is not a search for models; write models:/*-source, or models:/*-source[tag=value] for those "
            "with a tag."
        )
    return re.compile(re.escape(form[1]).replace(r"\*", ".*").replace(r"\?", ".")), tags
