"""The MLflow model registry: versions that know their content, their source and their descendants."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.models.reference import pinned, unpinned
from headstart.tracking.client import connect, explained
from headstart.tracking.names import (
    CHAMPION,
    DATA_DIGEST,
    DESCENDANT_PREFIX,
    MODEL_DIGEST,
    ROLE,
    SOURCE_DIGEST,
    SOURCE_MODEL,
    STRATEGY,
)
from headstart.tracking.runs import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from headstart.models.bundle import ModelBundle

# Where the bundle lies inside a logged model.
_BUNDLE = "artifacts/bundle"


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
    trained_by: str | None = None,
    description: str = "",
    aliases: tuple[str, ...] = (),
) -> Registered:
    """Makes the bundle a version of `model`, or finds the version that already holds it.

    The version's tags say role, strategy, digests and source; the source's version, where the source is registered,
    gets a tag that names this one. Doing it again changes nothing but moves `aliases` to the version. `trained_by` is
    the run whose metrics the version's page shows, by default `run`.
    """
    from headstart.models.bundle import ModelBundle, bundle_digest

    client = run.client
    loaded = ModelBundle.load(bundle)
    digest = bundle_digest(bundle)
    version = _version_with(client, model, digest)
    if version is None:
        version = _create(client, trained_by or run.id, bundle, loaded, model, digest, description)
    registered = Registered(model, str(version.version), digest)
    source = loaded.provenance.get("source")
    with explained():
        if source and source.startswith("models:/"):
            parent, parent_version = _name_and_version(unpinned(source))
            key = f"{DESCENDANT_PREFIX}{model}/{registered.version}"
            client.set_model_version_tag(parent, parent_version, key, digest)
        for alias in aliases:
            client.set_registered_model_alias(model, alias, registered.version)
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


def fetch(uri: str) -> Path:
    """A local directory with the bundle of `models:/name/version`."""
    from mlflow.artifacts import download_artifacts

    client = connect()
    version = find_version(client, uri)
    with explained():
        location = client.get_model_version_download_uri(version.name, version.version)
        path = download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/{_BUNDLE}", tracking_uri=os.environ["MLFLOW_TRACKING_URI"]
        )
    return Path(path)


def find_version(client: "MlflowClient", uri: str) -> "ModelVersion":
    """The version that `models:/name/version`, `models:/name@alias` or `models:/name` (champion, else latest) names."""
    from mlflow.exceptions import MlflowException

    reference = unpinned(uri).removeprefix("models:/")
    name, at, alias = reference.partition("@")
    if not at:
        name, _, number = reference.partition("/")
    try:
        if at:
            return client.get_model_version_by_alias(name, alias)
        if number:
            return client.get_model_version(name, number)
        model = client.get_registered_model(name)
        if CHAMPION in model.aliases:
            return client.get_model_version_by_alias(name, CHAMPION)
        latest = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])[0]
        # A version that was searched for comes without its aliases.
        return client.get_model_version(name, latest.version)
    except (MlflowException, IndexError):
        with explained():
            known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise InputError(
            f"The registry has no models:/{reference}; its models are: {known}. Give a name with a version or an "
            "alias that exists, for example models:/digits-source/1 or models:/digits-target@challenger."
        ) from None


def _version_with(client: "MlflowClient", model: str, digest: str) -> "ModelVersion | None":
    with explained():
        found = client.search_model_versions(f"name = '{model}' and tags.`{MODEL_DIGEST}` = '{digest}'")
    return min(found, key=lambda version: int(version.version)) if found else None


def _create(
    client: "MlflowClient", run_id: str, bundle: Path, loaded: "ModelBundle", model: str, digest: str, description: str
) -> "ModelVersion":
    import mlflow
    import numpy as np
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from headstart.tracking import serving
    from headstart.version import __version__

    size, channels = loaded.preprocessing.size, loaded.preprocessing.channels
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, channels))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(loaded.classes)))]),
    )
    tags = {
        ROLE: loaded.provenance.get("role", ""),
        STRATEGY: loaded.provenance.get("strategy", ""),
        MODEL_DIGEST: digest,
        DATA_DIGEST: loaded.provenance.get("data_digest", ""),
    }
    if source := loaded.provenance.get("source"):
        tags |= {SOURCE_MODEL: unpinned(source), SOURCE_DIGEST: loaded.provenance.get("source_digest", "")}
    with explained():
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        with _active(client, run_id), tempfile.TemporaryDirectory() as folder:
            # MLflow keeps a logged directory under its own name, and `fetch` looks for it under this one.
            named = shutil.copytree(bundle, Path(folder) / Path(_BUNDLE).name)
            # A model from code: the pyfunc is a source file and the weights are the bundle, so nothing is pickled.
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=serving.__file__,
                artifacts={"bundle": str(named)},
                signature=signature,
                pip_requirements=[f"headstart=={__version__}"],
            )
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return client.create_model_version(
            model, logged.model_uri, run_id=run_id, tags=tags, description=description, model_id=logged.model_id
        )


@contextmanager
def _active(client: "MlflowClient", run_id: str) -> Iterator[None]:
    """Makes the run the one that MLflow logs models to.

    MLflow ends it with the block, as failed if that raises. The run ended when its training did, so its own status and
    end are put back.
    """
    import mlflow

    before = client.get_run(run_id).info
    try:
        with mlflow.start_run(run_id=run_id):
            yield
    finally:
        if before.end_time:
            client.set_terminated(run_id, before.status, before.end_time)
        else:
            client.update_run(run_id, before.status)


def _name_and_version(uri: str) -> tuple[str, str]:
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return name, version
