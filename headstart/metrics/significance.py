"""P-values of comparisons between models: McNemar's test, and Holm's correction for several of them."""

from collections.abc import Sequence

import numpy as np

from headstart.metrics.groups import group_numbers
from headstart.metrics.marks import wrong_labels
from headstart.metrics.tally import is_of_classes, is_of_several


def mcnemar_p(
    labels: np.ndarray, predictions: np.ndarray, other_predictions: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """The two-sided p-value of McNemar's exact test that two models are equally accurate; arrays are int (N,).

    Of the items that exactly one of the two gets right, each is as likely to be the one's as the other's (McNemar 1947,
    "Note on the sampling error of the difference between correlated proportions"; exact form: Dietterich 1998,
    "Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms"). Items that belong
    together, with equal `groups` (N,), fall to one or the other together: the exact test of all signs of the groups'
    differences (Fisher 1935, "The design of experiments", section 21), which is McNemar's for groups of one item. In
    (0, 1]; 1 where the two are right on the same items.
    """
    from scipy.stats import binomtest

    right, other_right = predictions == labels, other_predictions == labels
    numbers = group_numbers(groups)
    if numbers is None:
        ours, theirs = int((right & ~other_right).sum()), int((other_right & ~right).sum())
        return float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return _sign_test(np.bincount(numbers, weights=right.astype(int) - other_right).astype(int))


def paired_p(
    labels: np.ndarray, predictions: np.ndarray, other_predictions: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """The two-sided p-value of a paired test that two models are equally good; arrays are (N,).

    Of classes it is `mcnemar_p`; of numbers Student's t-test of the differences of their absolute errors, added up
    within each of `groups`, 1 where the two predict the same; of several labels, with scores (N, K), the exact test of
    all signs (`mcnemar_p`) of the differences of how many labels of an item each gets wrong.
    """
    if is_of_several(labels):
        wrong, other_wrong = (wrong_labels(labels, each) for each in (predictions, other_predictions))
        units = group_numbers(groups)
        return _sign_test(
            (other_wrong - wrong if units is None else np.bincount(units, other_wrong - wrong)).astype(int)
        )
    if is_of_classes(labels):
        return mcnemar_p(labels, predictions, other_predictions, groups)
    from scipy.stats import ttest_1samp

    differences = np.abs(predictions - labels) - np.abs(other_predictions - labels)
    numbers = group_numbers(groups)
    sums = differences if numbers is None else np.bincount(numbers, weights=differences)
    return float(ttest_1samp(sums, 0.0).pvalue) if len(sums) > 1 and np.ptp(sums) > 0 else 1.0


def _sign_test(differences: np.ndarray) -> float:
    """The probability that Σ ± d over `differences`, int (G,), is as far from 0 as Σ d, each sign being as likely."""
    sizes = np.abs(differences)
    total = int(sizes.sum())
    # chances[s + total] is the probability of the sum s.
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    for size in sizes[sizes > 0]:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    sums = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(chances[sums >= abs(int(differences.sum()))].sum()))


def holm(probabilities: Sequence[float]) -> list[float]:
    """P-values of several tests, corrected to hold for all of them together (Holm 1979, "A simple sequentially
    rejective multiple test procedure"): the i-th smallest of m times m - i, at least the one before, at most 1."""
    order = np.argsort(probabilities, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(probabilities, dtype=float)[order]))
    return adjusted.tolist()
