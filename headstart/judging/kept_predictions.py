"""What models make of a data set's samples, kept below `State.folder`/predictions by content.

A pipeline that is run again judges the same models on the same samples; only a changed model predicts anew. Within a
run, models with the same stages, such as two heads on a source as it is, share their feature vectors: most of a
prediction's time goes into these. They are computed as a prediction computes them, to the bit, which those of
headstart/features/ are not: these are read in other batches and layouts. A file's key is a digest of everything that
decides its content, and the file ends in the digest of its content.
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
from headstart.judging.reading import BATCH
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.storage.content_cache import ContentCache, Draft
from headstart.storage.digests import is_sealed, json_digest, seal
from headstart.storage.state import State
from headstart.training.engine import training_device
from headstart.training.supervised import weights_digest
from headstart.version import CODE_VARIABLE

_LIMIT = 2 * 2**30

log = logging.getLogger(__name__)


def kept_predictions_of(bundle: ModelBundle, path: Path, dataset: Dataset, state: State | None) -> Predictions:
    """The predictions of the bundle at `path` on the test split, as `predictions_of`; computed if `state` does not have
    them."""
    split = dataset.split("test")
    outputs = kept({"model": bundle_digest(path)}, dataset, lambda: outputs_on_test(bundle, dataset, state), state)
    return Predictions(split.ids, split.labels, outputs, bundle.classes, split.groups, bundle.task)


def outputs_on_test(bundle: ModelBundle, dataset: Dataset, state: State | None) -> np.ndarray:
    """The outputs (N, ...) for the test split, as `predict_outputs`, of features that `state` may have."""
    return bundle.outputs_of(kept_features_of(bundle, dataset, state))


def features_at(bundle: ModelBundle, dataset: Dataset, rows: np.ndarray, state: State | None) -> np.ndarray:
    """The feature vectors of the test samples at `rows`; where there is a state, those of the whole split are kept."""
    if state is None:
        return kept_features_of(bundle, dataset, None, rows=rows)
    return kept_features_of(bundle, dataset, state)[rows]


def kept_features_of(
    bundle: ModelBundle, dataset: Dataset, state: State | None, *, name: str = "test", rows: np.ndarray | None = None
) -> np.ndarray:
    """The feature vectors of the samples of the split `name`, or of those at `rows`, as `predict_features`; computed if
    `state` has none of a model with the same stages."""
    samples = dataset.split(name).samples

    def make() -> np.ndarray:
        if rows is None:
            return bundle.predict_features(samples)
        # Not all read at once: two thousand pictures can take a gigabyte.
        parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
        return np.concatenate([bundle.predict_features(samples[part]) for part in parts])

    if state is None:
        return make()
    what = {
        "stages": weights_digest(bundle.network.stages),
        "architecture": bundle.architecture,
        "preprocessing": bundle.preprocessing.to_dict(),
        "rows": None if rows is None else rows.tolist(),
    }
    return kept(what, dataset, make, state, name=name)


def kept(
    what: Mapping[str, Any],
    dataset: Dataset,
    make: Callable[[], np.ndarray],
    state: State | None,
    *,
    name: str = "test",
) -> np.ndarray:
    """The array that `make` computes of the split `name`; computed if `state` does not have it.

    `what` are JSON values: the model, and all else that decides the array beside the samples.
    """
    if state is None:
        return make()
    cache = ContentCache(state.folder / "predictions", _LIMIT)
    try:
        with cache.get(_key(what, dataset, name), partial(_make, make), _is_intact) as file:
            # Read whole, as the file may be removed to make room.
            found: np.ndarray = np.load(file.name, allow_pickle=False)
    # filelock raises NotImplementedError on file systems without locks.
    except (OSError, NotImplementedError) as error:
        log.warning("Predictions cannot be kept in %s (%s); they are computed.", cache.folder, error)
        return make()
    return found


def _key(what: Mapping[str, Any], dataset: Dataset, name: str) -> str:
    split, files = dataset.split(name), dataset.manifest.get("files", {})
    ids = hashlib.sha256("\n".join(split.ids.tolist()).encode()).hexdigest()
    content = {
        **what,
        "samples": [ids, split.store, *split.samples.shape, files.get(dataset.samples_file(name))],
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
