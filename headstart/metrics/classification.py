"""Classification metrics from class-wise counts, the same for one test split and for thousands of resamples.

One rule holds everywhere. Macro averages run over the classes that occur among the labels (a class without a label
has no recall to speak of), and a ratio with a zero denominator counts as 0. This is scikit-learn with
`labels=np.unique(y_true), average="macro", zero_division=0`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.errors import HeadstartError, InputError

ECE_BINS = 15


@dataclass(frozen=True)
class Counts:
    """What the metrics need to know of labels and predictions; each array is (..., K), one entry a class."""

    hits: np.ndarray
    """items of the class that were predicted as it"""
    labelled: np.ndarray
    """items of the class"""
    predicted: np.ndarray
    """items predicted as the class"""


def count(labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> Counts:
    """The counts (K,) of integer labels (N,) and predictions (N,) in [0, K)."""
    return Counts(
        hits=np.bincount(labels[labels == predictions], minlength=classes_count),
        labelled=np.bincount(labels, minlength=classes_count),
        predicted=np.bincount(predictions, minlength=classes_count),
    )


def accuracy(counts: Counts) -> np.ndarray:
    """Correct predictions among all, in [0, 1]; counts (..., K) give shape (...)."""
    return _ratio(counts.hits.sum(axis=-1), counts.labelled.sum(axis=-1))


def macro_recall(counts: Counts) -> np.ndarray:
    """Mean over the classes of correct predictions among the class's items; also called balanced accuracy."""
    return _macro(recalls(counts), counts)


def macro_precision(counts: Counts) -> np.ndarray:
    """Mean over the classes of correct predictions among the predictions of the class."""
    return _macro(precisions(counts), counts)


def macro_f1(counts: Counts) -> np.ndarray:
    """Mean over the classes of the harmonic mean of precision and recall."""
    return _macro(f1_scores(counts), counts)


METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "accuracy": accuracy,
    "balanced_accuracy": macro_recall,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
    "macro_f1": macro_f1,
}
"""By name, the metrics that a recipe can choose; higher is better and the range is [0, 1] for all of them."""


def metric(name: str) -> Callable[[Counts], np.ndarray]:
    """The metric called `name`; InputError for an unknown name."""
    if name not in METRICS:
        raise InputError(f"{name!r} is not a metric; choose one of {', '.join(METRICS)}.")
    return METRICS[name]


def score(name: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> float:
    """The metric called `name` of integer labels (N,) and predictions (N,) in [0, K)."""
    return float(metric(name)(count(labels, predictions, classes_count)))


def metric_title(name: str) -> str:
    """The metric's name as people write it: "macro_f1" is macro F1."""
    return name.replace("_", " ").replace("f1", "F1")


def recalls(counts: Counts) -> np.ndarray:
    """Recall of each class, (..., K)."""
    return _ratio(counts.hits, counts.labelled)


def precisions(counts: Counts) -> np.ndarray:
    """Precision of each class, (..., K)."""
    return _ratio(counts.hits, counts.predicted)


def f1_scores(counts: Counts) -> np.ndarray:
    """F1 of each class, (..., K), as 2·hits / (labelled + predicted)."""
    return _ratio(2 * counts.hits, counts.labelled + counts.predicted)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> np.ndarray:
    """Item counts (K, K): the row is the true class, the column the predicted one."""
    cells = np.bincount(labels * classes_count + predictions, minlength=classes_count**2)
    return cells.reshape(classes_count, classes_count)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> float:
    """Σ_b |B_b|/N · |accuracy(B_b) - confidence(B_b)| over equal-width bins ((b-1)/bins, b/bins] of the confidence.

    The confidence is the probability of the predicted class (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3). In [0, 1], 0 is perfect.
    """
    gaps, bin_of = calibration_gaps(labels, probabilities, bins)
    return float(np.abs(np.bincount(bin_of, weights=gaps, minlength=bins)).sum() / len(labels))


def calibration_gaps(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS
) -> tuple[np.ndarray, np.ndarray]:
    """For each item 1 or 0, as it is right or wrong, less its confidence, float (N,); and the bin of its confidence,
    int (N,) from 0 on."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    return correct - confidence, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Everything that the record keeps of one model on one split, ready for JSON.

    labels: int (N,) in [0, K); probabilities: (N, K), rows sum to 1; classes: K names. The prediction is the most
    probable class, the first one where several are. Keys: accuracy, balanced_accuracy, macro_precision,
    macro_recall, macro_f1, ece; per_class, a list of {name, precision, recall, f1, support}; confusion, K lists of
    K counts (row: true class). HeadstartError if the arrays do not fit together.
    """
    check_predictions(labels, probabilities, len(classes))
    predictions = probabilities.argmax(axis=1)
    counts = count(labels, predictions, len(classes))
    rows = zip(
        classes,
        precisions(counts).tolist(),
        recalls(counts).tolist(),
        f1_scores(counts).tolist(),
        counts.labelled.tolist(),
        strict=True,
    )
    return {
        **{name: float(function(counts)) for name, function in METRICS.items()},
        "ece": expected_calibration_error(labels, probabilities),
        "per_class": [
            {"name": name, "precision": precision, "recall": recall, "f1": f1, "support": support}
            for name, precision, recall, f1, support in rows
        ],
        "confusion": confusion_matrix(labels, predictions, len(classes)).tolist(),
    }


def check_predictions(labels: np.ndarray, probabilities: np.ndarray, classes_count: int) -> None:
    """HeadstartError unless labels (N,) in [0, K) and probabilities (N, K), rows summing to 1, fit each other."""
    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise HeadstartError(
            f"Labels of shape {labels.shape} and probabilities of shape {probabilities.shape} do not belong "
            "together; give one label and one row of probabilities for each item."
        )
    if len(labels) == 0:
        raise HeadstartError("There are no items to evaluate on; give the test split at least one.")
    if probabilities.shape[1] != classes_count:
        raise HeadstartError(
            f"The probabilities are for {probabilities.shape[1]} classes but the data has {classes_count}; "
            "evaluate the model on the data set whose classes it predicts."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes_count:
        raise HeadstartError(
            f"A label is not one of the {classes_count} classes; labels are integers from 0 to {classes_count - 1}."
        )
    if not np.isfinite(probabilities).all():
        raise HeadstartError(
            "Some probabilities are not finite numbers: the model has diverged; lower its learning rate."
        )
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise HeadstartError("Some rows are not probabilities; apply a softmax to the model's logits first.")


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    # A zero denominator always has a zero numerator here, so 0 / 1 is the 0 that the module promises.
    return numerator / np.maximum(denominator, 1)


def _macro(scores: np.ndarray, counts: Counts) -> np.ndarray:
    occurs = counts.labelled > 0
    return _ratio((scores * occurs).sum(axis=-1), occurs.sum(axis=-1))
