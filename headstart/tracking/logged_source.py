"""Models that runs logged, as sources: `runs:/<run id>/<name>`, and `models:/m-<id>`, MLflow's name for the same.

What headstart logged, what mlflow.transformers logged, and folders of either kind among a run's artifacts are read.
Other flavours hold a pickle or a program, from which there is nothing to train on.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart import yaml_text
from headstart.data.tree import one_line
from headstart.errors import InputError, shortened
from headstart.models.bundle import bundle_digest
from headstart.models.foreign.folder import ModelFolder
from headstart.models.reference import RUNS, pinned, unpinned
from headstart.storage.sums import SUMS
from headstart.tracking.client import connect, explained
from headstart.tracking.logged_model import BUNDLE

if TYPE_CHECKING:
    from mlflow import MlflowClient

_RUN = re.compile(r"runs:/([0-9a-zA-Z]{1,64})/([^?#]+)")
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})/?")
_MLMODEL = "MLmodel"
_LARGEST = 2**20


def is_logged(uri: str) -> bool:
    """Whether a reference names what a run logged, and not a registered version."""
    return uri.startswith(RUNS) or _LOGGED.fullmatch(unpinned(uri)) is not None


def resolve_logged(uri: str) -> str:
    """Pin a reference to a model that a run logged: `runs:/<run id>/<name>#sha256=…`. Its files are fetched.

    Raises:
        InputError: there is no such run or model, or it is of a flavour that is not read.
    """
    uri = _by_run(connect(), unpinned(uri))
    path = fetch_logged(uri)
    if (path / SUMS).is_file():
        return pinned(uri, bundle_digest(path))
    return pinned(uri, ModelFolder.local(path, uri).digest())


@explained()
def fetch_logged(uri: str) -> Path:
    """A local directory with the bundle or the folder of a model that `runs:/<run id>/<name>` names; errors as in
    `resolve_logged`."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    place = unpinned(uri)
    if not _RUN.fullmatch(place) or ".." in place:
        raise InputError(f"{shortened(place)} names no model of a run; write runs:/RUN_ID/NAME.")
    try:
        path = Path(download_artifacts(artifact_uri=place, tracking_uri=os.environ["MLFLOW_TRACKING_URI"]))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{place} cannot be fetched ({shortened(one_line(error), 200)}); its run's page lists what it logged."
        ) from None
    for folder in (path, path / BUNDLE):
        if (folder / SUMS).is_file():
            return folder
    if ModelFolder.local(path, place).is_model:
        return path
    raise InputError(f"{place} {_reason(path)}")


@explained()
def _by_run(client: "MlflowClient", uri: str) -> str:
    """`runs:/<run id>/<name>` of a model that is named so, or by its own id."""
    found = _LOGGED.fullmatch(uri)
    if not found:
        return uri.rstrip("/")
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_logged_model(found[1])
    except MlflowException:
        raise InputError(f"The record has no model {uri}; its run's page lists what it logged.") from None
    return f"{RUNS}{model.source_run_id}/{model.name}"


def _reason(path: Path) -> str:
    """Why what was logged is no source, and what to do, as the rest of a sentence."""
    remedy = (
        "log it with mlflow.transformers, or save its state_dict() as safetensors and name that file with "
        "?architecture=…."
    )
    if not path.is_dir():
        return f"is a file, and no folder of a model: {remedy}"
    flavours = _flavours(path / _MLMODEL)
    if flavours:
        named = " and ".join(f"mlflow.{shortened(name, 40)}" for name in flavours)
        return f"was logged by {named}, which keeps a pickle or a program, and neither is read: {remedy}"
    return f"holds neither a bundle nor a model that save_pretrained wrote: {remedy}"


def _flavours(file: Path) -> list[str]:
    """The flavours that a logged model has by its description, that of any Python program left out."""
    try:
        content: Any = yaml_text.parse(file.read_text("utf-8")) if file.stat().st_size < _LARGEST else None
    except (OSError, UnicodeDecodeError, yaml_text.UnreadableText):
        return []
    flavours = content.get("flavors") if isinstance(content, Mapping) else None
    names = sorted(str(name) for name in flavours) if isinstance(flavours, Mapping) else []
    return [name for name in names if name != "python_function"] or names
