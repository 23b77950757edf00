"""The result of every training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.metrics.predictions import write_predictions
from headstart.models.bundle import ModelBundle


@dataclass(frozen=True)
class Trained:
    """A model, and what its training came to.

    `model` is a bundle; where the model itself cannot be kept, its probabilities on the test split, float32 (N, K).
    `validation` is the metric on the validation split, without labels the negated loss there, with the weights that
    were kept. `seconds` counts what was done before an interruption too. `params` are the settings and decisions that
    belong into the record, JSON values.

    Of a training in steps, `history` has one mapping an epoch: epoch, train/loss, val/loss, val/<metric>; `best_epoch`
    is the one whose weights were kept, 0 the start.
    """

    model: ModelBundle | np.ndarray
    validation: float
    seconds: float
    params: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    samples_per_second: float | None = None

    @property
    def bundle(self) -> ModelBundle:
        """The model, where it is kept as a bundle."""
        assert isinstance(self.model, ModelBundle)  # noqa: S101 (baselines alone are kept otherwise)
        return self.model

    def save(self, path: Path, dataset: Dataset) -> Path:
        """Keep the model as a bundle in `path`, or its predictions on the test split in `path`.parquet."""
        if isinstance(self.model, ModelBundle):
            self.model.save(path)
            return path
        return self.save_predictions(path.with_name(f"{path.name}.parquet"), dataset)

    def save_predictions(self, path: Path, dataset: Dataset) -> Path:
        """Write what the model predicts for the test split of `dataset`."""
        test, model = dataset.split("test"), self.model
        probabilities = model.predict_probabilities(test.samples) if isinstance(model, ModelBundle) else model
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, test.ids, test.labels, probabilities, dataset.classes)
        return path
