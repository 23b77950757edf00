"""Counts of labels and predictions by class, and the shares of each class that follow from them.

They are the same for one test split and for thousands of resamples. One rule holds everywhere: macro averages run over
the classes that occur among the labels (a class without a label has no recall to speak of), and a ratio with a zero
denominator counts as 0. This is scikit-learn with `labels=np.unique(y_true), average="macro", zero_division=0`.
"""

from dataclasses import dataclass

import numpy as np


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


def recalls(counts: Counts) -> np.ndarray:
    """Recall of each class, (..., K)."""
    return ratio(counts.hits, counts.labelled)


def precisions(counts: Counts) -> np.ndarray:
    """Precision of each class, (..., K)."""
    return ratio(counts.hits, counts.predicted)


def f1_scores(counts: Counts) -> np.ndarray:
    """F1 of each class, (..., K), as 2·hits / (labelled + predicted)."""
    return ratio(2 * counts.hits, counts.labelled + counts.predicted)


def macro(shares: np.ndarray, counts: Counts) -> np.ndarray:
    """The mean of the classes' shares (..., K) over the classes that occur, (...)."""
    occurs = counts.labelled > 0
    return ratio((shares * occurs).sum(axis=-1), occurs.sum(axis=-1))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Counts over counts of the same shape."""
    # A zero denominator always has a zero numerator here, so 0 / 1 is the 0 that the module promises.
    return numerator / np.maximum(denominator, 1)
