"""The figures of one model on one split: every metric, the calibration error, each class, the confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.metrics.calibration import expected_calibration_error
from headstart.metrics.counts import count, f1_scores, precisions, recalls
from headstart.metrics.metric import METRICS, metrics_of


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> np.ndarray:
    """Item counts (K, K): the row is the true class, the column the predicted one."""
    cells = np.bincount(labels * classes_count + predictions, minlength=classes_count**2)
    return cells.reshape(classes_count, classes_count)


def confused(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A confusion matrix (K, K) as JSON values in proportion to its items: `classes`, and `cells`, a list of (number of
    the true class, of the predicted one, items) without those of no items."""
    counts = np.asarray(confusion)
    places = np.argwhere(counts)
    return {"classes": list(classes), "cells": np.column_stack([places, counts[tuple(places.T)]]).tolist()}


def largest_confusions(
    classes: Sequence[str], confusion: Sequence[Sequence[int]], most: int = 100
) -> tuple[list[str], list[list[int]]]:
    """A confusion matrix (K, K) and its classes, of more than `most` those with the most errors and all others as one.

    Kubeflow keeps the matrix in its metadata store, which has no room for that of a thousand classes.
    """
    counts = np.asarray(confusion)
    if len(classes) <= most:
        return list(classes), counts.tolist()
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    shown = np.sort(np.argsort(-errors, kind="stable")[: most - 1])
    place = np.full(len(classes), len(shown))
    place[shown] = np.arange(len(shown))
    joined = np.zeros((most, most), dtype=np.int64)
    np.add.at(joined, (place[:, None], place), counts)
    others = f"{len(classes) - len(shown)} others"
    return [*(classes[each] for each in shown), others], joined.tolist()


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The figures that the record keeps of one model on one split, as JSON values.

    labels: int (N,) in [0, K); probabilities: (N, K), rows sum to 1; classes: K names. The prediction is the most
    probable class, the first one where several are. Keys: the name of each metric; ece; per_class, a list of {name,
    precision, recall, f1, support}; confusion, K lists of K counts (row: true class). HeadstartError if the arrays do
    not fit together.
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
        **{name: float(METRICS[name].of(counts)) for name in metrics_of("single_label")},
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
