"""P-values of comparisons between models: McNemar's test, and Holm's correction for several of them."""

from collections.abc import Sequence

import numpy as np


def mcnemar_p(labels: np.ndarray, predictions: np.ndarray, other_predictions: np.ndarray) -> float:
    """The two-sided p-value of McNemar's exact test that two models are equally accurate; arrays are int (N,).

    Of the items that exactly one of the two gets right, each is as likely to be the one's as the other's (McNemar 1947,
    "Note on the sampling error of the difference between correlated proportions"; exact form: Dietterich 1998,
    "Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms"). In (0, 1]; 1 where the
    two are right on the same items.
    """
    from scipy.stats import binomtest

    right, other_right = predictions == labels, other_predictions == labels
    ours, theirs = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0


def holm(probabilities: Sequence[float]) -> list[float]:
    """P-values of several tests, corrected to hold for all of them together (Holm 1979, "A simple sequentially
    rejective multiple test procedure"): the i-th smallest of m times m - i, at least the one before, at most 1."""
    order = np.argsort(probabilities, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(probabilities, dtype=float)[order]))
    return adjusted.tolist()
