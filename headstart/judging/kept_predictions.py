"""Predictions for the test split and corrupted forms of it, kept below `State.folder`/predictions by content.

A pipeline that is run again judges the same models on the same samples; only a changed model predicts anew. A file's
key is a digest of everything that decides its content, and the file ends in the digest of its content.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from headstart.data.dataset import Dataset
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.storage.content_cache import ContentCache, Draft
from headstart.storage.digests import is_sealed, json_digest, seal
from headstart.storage.state import State
from headstart.training.engine import training_device
from headstart.training.trained import predictions_of
from headstart.version import CODE_VARIABLE

_LIMIT = 2 * 2**30

log = logging.getLogger(__name__)


def kept_predictions_of(bundle: ModelBundle, path: Path, dataset: Dataset, state: State | None) -> Predictions:
    """The predictions of the bundle at `path` on the test split, as `predictions_of`; computed if `state` does not have
    them."""
    split = dataset.split("test")
    outputs = kept({}, path, dataset, lambda: predictions_of(bundle, split).outputs, state)
    return Predictions(split.ids, split.labels, outputs, bundle.classes, split.groups, bundle.task)


def kept(
    what: Mapping[str, Any], path: Path, dataset: Dataset, make: Callable[[], np.ndarray], state: State | None
) -> np.ndarray:
    """The array that `make` computes of the bundle at `path` and the test split; computed if `state` does not have it.

    `what` are JSON values that decide it beside the two.
    """
    if state is None:
        return make()
    cache = ContentCache(state.folder / "predictions", _LIMIT)
    try:
        with cache.get(_key(what, path, dataset), partial(_make, make), _is_intact) as file:
            # Read whole, as the file may be removed to make room.
            found: np.ndarray = np.load(file.name, allow_pickle=False)
    # filelock raises NotImplementedError on file systems without locks.
    except (OSError, NotImplementedError) as error:
        log.warning("Predictions cannot be kept in %s (%s); they are computed.", cache.folder, error)
        return make()
    return found


def _key(what: Mapping[str, Any], path: Path, dataset: Dataset) -> str:
    split, files = dataset.split("test"), dataset.manifest.get("files", {})
    ids = hashlib.sha256("\n".join(split.ids.tolist()).encode()).hexdigest()
    content = {
        **what,
        "model": bundle_digest(path),
        "samples": [ids, split.store, *split.samples.shape, files.get(dataset.samples_file("test"))],
        "device": training_device().type,
        "versions": versions(),
        "code": os.environ.get(CODE_VARIABLE),
    }
    return json_digest(content)


def _make(make: Callable[[], np.ndarray], draft: Draft) -> None:
    with draft.path.open("wb") as file:
        np.save(file, make())
    seal(draft.path)


def _is_intact(file: BinaryIO) -> bool:
    path = Path(file.name)
    if is_sealed(path):
        return True
    log.warning("%s is damaged (its content is not what its digest was taken of); it is made again.", path)
    path.unlink(missing_ok=True)
    return False
