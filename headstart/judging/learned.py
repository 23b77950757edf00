"""Whether a network was trained to its end: beating a baseline that was not says nothing about the transfer, and a
source that was not may be worth less than none."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.subsets import spread_out
from headstart.judging.kept_predictions import kept_features_of
from headstart.metrics.tally import score
from headstart.metrics.task import MULTI_LABEL, SINGLE_LABEL
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State

# A network that learns its own training samples is right on more of them than this, whatever the task.
LEARNED = 0.9
# Training samples that are looked at: more would tell it no better.
_SEEN = 1000
# A training that ends by patience has had at least so many epochs without a better one.
_LEAST_PATIENCE = 5


def unlearned(bundle: ModelBundle, dataset: Dataset) -> float | None:
    """The accuracy on its training samples, for several labels the mean average precision and for numbers R², of a
    network whose epochs ran out before it had learned them.

    None where it is above 0.9, where training ended as nothing got better, and where its epochs are not known.
    """
    if not _was_cut(bundle.provenance):
        return None
    accuracy = accuracy_at(bundle, dataset, spread_out(dataset.split("train").labels, _SEEN))
    return accuracy if accuracy <= LEARNED else None


def accuracy_at(bundle: ModelBundle, dataset: Dataset, positions: np.ndarray) -> float:
    """The share of the training samples at `positions`, int (n,), that the model is right on; for several labels the
    mean average precision, and for numbers the share of their variance that it explains."""
    features = kept_features_of(bundle, dataset, State.from_environment(), name="train", rows=positions)
    predicted = bundle.kind.predicted(bundle.outputs_of(features))
    metric = {SINGLE_LABEL: "accuracy", MULTI_LABEL: "mean_average_precision"}.get(bundle.task, "r2")
    return score(metric, dataset.split("train").labels[positions], predicted, len(bundle.classes))


def _was_cut(provenance: Mapping[str, Any]) -> bool:
    history, kept = provenance.get("history") or [], provenance.get("kept_epoch")
    return len(history) > 0 and kept is not None and history[-1]["epoch"] - kept < _LEAST_PATIENCE
