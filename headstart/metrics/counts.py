"""Counts of labels and predictions by class, and the precision, recall and F1 of each class, for one test split or for
thousands of resamples.

Macro averages run over the classes that occur among the labels, and a ratio with a zero denominator counts as 0. This
is scikit-learn with `labels=np.unique(y_true), average="macro", zero_division=0`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Counted(Protocol):
    """What has these counts by class, or by label of several; each array is (..., K)."""

    @property
    def hits(self) -> np.ndarray: ...

    @property
    def labelled(self) -> np.ndarray: ...

    @property
    def predicted(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Counts:
    """Item counts by class, from which all metrics follow; each array is (..., K)."""

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


def recalls(counts: Counted) -> np.ndarray:
    """Recall of each class, (..., K)."""
    return ratio(counts.hits, counts.labelled)


def precisions(counts: Counted) -> np.ndarray:
    """Precision of each class, (..., K)."""
    return ratio(counts.hits, counts.predicted)


def f1_scores(counts: Counted) -> np.ndarray:
    """F1 of each class, (..., K), as 2·hits / (labelled + predicted)."""
    return ratio(2 * counts.hits, counts.labelled + counts.predicted)


def macro(shares: np.ndarray, counts: Counted) -> np.ndarray:
    """The mean of the classes' shares (..., K) over the classes that occur, (...)."""
    occurs = counts.labelled > 0
    return ratio((shares * occurs).sum(axis=-1), occurs.sum(axis=-1))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Counts over counts of the same shape."""
    # A zero denominator always has a zero numerator here, so that the ratio is 0 / 1.
    return numerator / np.maximum(denominator, 1)
