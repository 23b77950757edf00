"""The result of every training."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset, Split
from headstart.metrics.predictions import Predictions, joined, read_predictions
from headstart.metrics.task import Calibration
from headstart.models.bundle import ModelBundle

# Held-out predictions lie in a bundle's directory, outside of its sums, or beside predictions on the test split.
HELD_OUT = "held_out.parquet"


@dataclass(frozen=True)
class Judged:
    """What a model predicts for labelled samples that it did not see, at a calibration that suits these."""

    predictions: Predictions
    calibration: Calibration


def judged_together(parts: Sequence[Judged]) -> Judged:
    """The predictions of models that were made alike, for other samples each, with one calibration that suits them all.

    Each alone has a handful of samples to be calibrated by, and would be judged by the same.
    """
    every, kind = joined([each.predictions for each in parts]), parts[0].predictions.kind
    logits = np.concatenate([kind.logits(each.predictions.outputs, each.calibration) for each in parts])
    calibration = kind.calibrated(logits, every.labels, every.groups)
    return Judged(replace(every, outputs=kind.outputs(logits, calibration)), calibration)


@dataclass(frozen=True)
class Trained:
    """A model, and what its training came to.

    `model` is a bundle; where the model itself cannot be kept, its outputs on the test split, float32 (N, M).
    `validation` is the metric on the labelled samples that were held out of the training which chose (NaN where there
    are none), without labels the negated loss there. `seconds` counts what was done before an interruption too.
    `params` are the settings and decisions that belong into the record, JSON values.

    Of a training in steps, `history` has one mapping an epoch: epoch, train/loss, val/loss, val/<metric>; `best_epoch`
    is the one whose weights were kept, 0 the start.

    `held_out` are calibrated predictions for labelled samples that the training which predicted them did not see:
    contenders are chosen by them. None where nothing was held out. `start` is what the start predicts for the same
    samples, where the start is a model that training has to beat; None elsewhere.
    """

    model: ModelBundle | np.ndarray
    validation: float
    seconds: float
    params: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    samples_per_second: float | None = None
    held_out: Predictions | None = None
    start: Judged | None = None

    @property
    def bundle(self) -> ModelBundle:
        """The model, where it is kept as a bundle."""
        assert isinstance(self.model, ModelBundle)  # noqa: S101 (baselines alone are kept otherwise)
        return self.model

    @property
    def keeps_start(self) -> bool:
        """Whether the model is the start as it was, which training did not beat."""
        return isinstance(self.model, ModelBundle) and self.model.provenance.get("kept_epoch") == 0

    def save(self, path: Path, dataset: Dataset) -> Path:
        """Keep the model as a bundle in `path`, or its predictions on the test split in `path`.parquet, and its
        held-out predictions where `read_held_out` finds them."""
        if isinstance(self.model, ModelBundle):
            self.model.save(path)
        else:
            path = self.save_predictions(path.with_name(f"{path.name}.parquet"), dataset)
        if self.held_out is not None:
            self.held_out.save(held_out_path(path))
        return path

    def save_predictions(self, path: Path, dataset: Dataset) -> Path:
        """Write what the model predicts for the test split of `dataset`."""
        test, model = dataset.split("test"), self.model
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(model, ModelBundle):
            predictions_of(model, test).save(path)
        else:
            Predictions(test.ids, test.labels, model, dataset.classes, test.groups, dataset.task).save(path)
        return path


def calibrated(
    ids: np.ndarray, labels: np.ndarray, logits: np.ndarray, bundle: ModelBundle, groups: np.ndarray
) -> Predictions:
    """The predictions for samples by their logits (N, K), at the bundle's calibration."""
    outputs = bundle.kind.outputs(logits, bundle.calibration)
    return Predictions(ids, labels, outputs, bundle.classes, groups, bundle.task)


def predictions_of(bundle: ModelBundle, split: Split) -> Predictions:
    """The bundle's calibrated predictions on a split whose labels are indices into its classes, or numbers."""
    outputs = bundle.predict_outputs(split.samples)
    return Predictions(split.ids, split.labels, outputs, bundle.classes, split.groups, bundle.task)


def read_held_out(path: Path) -> Predictions | None:
    """The held-out predictions that `Trained.save` kept with the model at `path`; None if there are none."""
    place = held_out_path(path)
    return read_predictions(place) if place.exists() else None


def held_out_path(path: Path) -> Path:
    """The file with the held-out predictions of the model that is kept at `path`."""
    return path / HELD_OUT if path.is_dir() else path.with_name(f"{path.stem}.{HELD_OUT}")
