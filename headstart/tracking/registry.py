"""MLflow's model registry, read-only: versions by reference or search, their bundles, evidence and example requests."""

import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.data.tree import one_line
from headstart.errors import HeadstartError, InputError
from headstart.judging.evidence import Evidence
from headstart.models.reference import pinned, unpinned
from headstart.storage.local import read_json
from headstart.tracking.client import connect, explained, ignoring, search_all
from headstart.tracking.logged_model import BUNDLE, EVIDENCE, EXAMPLE, RECIPE
from headstart.tracking.names import CHAMPION, MODEL_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


log = logging.getLogger(__name__)

# Where mlflow.transformers puts the model's description.
_TRANSFORMERS = "model/config.json"


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
    """Pin `models:/name@alias` or `models:/name/version` to `models:/name/version#sha256=…`, and what a run logged to
    `runs:/run id/name#sha256=…`.

    A version that MLflow's flavour for transformers logged is downloaded, as no tag has its digest.

    Raises:
        InputError: there is no such model, alias or version, or the version holds neither a bundle that headstart
            registered nor a model of transformers.
    """
    from headstart.models.foreign.folder import ModelFolder
    from headstart.tracking import logged_source

    if logged_source.is_logged(uri):
        return logged_source.resolve_logged(uri)
    client = connect()
    version = find_version(client, uri)
    digest = version.tags.get(MODEL_DIGEST)
    if not digest:
        location = _location(client, version)
        if _has(location, _TRANSFORMERS):
            digest = ModelFolder.local(_fetched(version, location), uri).digest()
    if not digest:
        raise InputError(
            f"{uri} was not registered by headstart (it has no {MODEL_DIGEST} tag) and is no model that "
            "mlflow.transformers logged; other flavours keep a pickle or a program, and neither is read: log it with "
            "mlflow.transformers, or save its state_dict() as safetensors and name that file with ?architecture=…."
        )
    return Registered(version.name, str(version.version), digest).reference


@explained()
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
    """A local directory with the bundle of `models:/name/version`, or with what mlflow.transformers or a run logged.
    HeadstartError if it is gone."""
    from headstart.tracking import logged_source

    if logged_source.is_logged(uri):
        return logged_source.fetch_logged(uri)
    client = connect()
    version = find_version(client, uri)
    location = _location(client, version)
    foreign = not version.tags.get(MODEL_DIGEST) and _has(location, _TRANSFORMERS)
    return _fetched(version, location, "" if foreign else BUNDLE)


def stored_recipe(client: "MlflowClient", version: "ModelVersion") -> dict[str, Any] | None:
    """The JSON values of the recipe that is kept with a version; None if there is none. HeadstartError if its file is
    gone or damaged."""
    part, location = f"{EVIDENCE}/{RECIPE}", _location(client, version)
    if not _has(location, part):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return dict(read_json(_fetched(version, location, part, to=folder)))
        except (OSError, ValueError, TypeError) as error:
            raise HeadstartError(
                f"The recipe of models:/{version.name}/{version.version} is damaged ({type(error).__name__}); restore "
                "it from a backup, or run the recipe's file."
            ) from error


def stored_example(uri: str) -> list[str] | None:
    """The request that was logged with `models:/name/version`: the content of files as base64 text. None if there is
    none, as what was registered by hand may have none; HeadstartError if it is damaged."""
    client = connect()
    version = find_version(client, uri)
    location = _location(client, version)
    if not _has(location, EXAMPLE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = _fetched(version, location, EXAMPLE, to=folder)
        try:
            return [str(row[0]) for row in read_json(file)["data"]]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise HeadstartError(
                f"The {EXAMPLE} of {uri} is damaged ({type(error).__name__}); restore it from a backup, or register "
                "the model again."
            ) from error


def evidence(client: "MlflowClient", version: "ModelVersion") -> Evidence:
    """What speaks for the version.

    Raises:
        InputError: it has none, as what was registered by hand has not, or it is damaged.
        HeadstartError: its file is gone.
    """
    location = _location(client, version)
    if not _has(location, EVIDENCE):
        raise InputError(
            f"models:/{version.name}/{version.version} has no evidence: it was not registered by a pipeline of "
            "headstart; run its recipe again and register what comes of it."
        )
    with tempfile.TemporaryDirectory() as folder:
        return Evidence.load(_fetched(version, location, EVIDENCE, to=folder))


@explained()
def _location(client: "MlflowClient", version: "ModelVersion") -> str:
    """The URI under which a version's files lie. It costs two requests, so a caller asks once for all that it reads."""
    return client.get_model_version_download_uri(version.name, version.version).rstrip("/")


@explained()
def _has(location: str, part: str) -> bool:
    """Whether a version whose files lie at `location` holds one at the path `part`."""
    from mlflow.artifacts import list_artifacts

    *folders, name = Path(part).parts
    folder = "/".join([location, *folders])
    found = list_artifacts(artifact_uri=folder, tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    return any(Path(each.path).name == name for each in found)


@explained()
def _fetched(version: "ModelVersion", location: str, part: str = "", to: str | None = None) -> Path:
    """A part of the files at `location`, by default all, on this machine: where it lies or, from a server, in `to` or a
    new directory."""
    from mlflow.artifacts import download_artifacts
    from requests import RequestException  # type: ignore[import-untyped]

    try:
        path = download_artifacts(
            artifact_uri=f"{location}/{part}".rstrip("/"), dst_path=to, tracking_uri=os.environ["MLFLOW_TRACKING_URI"]
        )
    # Each kind of artifact store has its own exceptions.
    except Exception as error:
        unanswered = error if isinstance(error, RequestException) else error.__context__
        if isinstance(unanswered, RequestException) and unanswered.response is None:
            raise
        raise HeadstartError(
            f"The files of models:/{version.name}/{version.version} cannot be fetched ({one_line(error)[:200]}); "
            "restore them from a backup, or register the model again."
        ) from error
    return Path(path)


@explained()
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
            # Before 3.17 MLflow kept the alias of a version that was deleted.
            with ignoring("RESOURCE_DOES_NOT_EXIST"):
                return client.get_model_version_by_alias(name, CHAMPION)
        # Search results have no aliases.
        return client.get_model_version(name, latest_version(client, name).version)
    except (MlflowException, IndexError, ValueError):
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
