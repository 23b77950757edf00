"""The reliability of a model's confidence: whether it is right as often as it says, and how many errors remain where
the items that it is unsure of are left to a human."""

from dataclasses import dataclass

import numpy as np

from headstart.metrics.calibration import ECE_BINS, calibration_gaps
from headstart.metrics.groups import group_numbers, groups_at
from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import share_interval


@dataclass(frozen=True)
class Bin:
    """Items of about the same confidence."""

    low: float
    high: float
    """the confidences in (low, high] that it holds"""
    items: int
    confidence: float
    """their mean"""
    accuracy: Interval


def reliability_bins(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    confidence: float = 0.95,
    bins: int = ECE_BINS,
    groups: np.ndarray | None = None,
) -> list[Bin]:
    """The reliability diagram (DeGroot and Fienberg 1983; Guo et al. 2017, figure 1): the bins of
    `expected_calibration_error` that hold items, with Wilson's intervals at `confidence`; `groups` (N,) as in
    `Predictions`.

    The calibration error is Σ items / N · |accuracy - confidence| over them.
    """
    _, bin_of = calibration_gaps(labels, probabilities, bins)
    top, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    groups = group_numbers(groups)
    found = []
    for number in np.unique(bin_of).tolist():
        inside = bin_of == number
        accuracy = share_interval(right[inside], groups_at(groups, inside), confidence=confidence)
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), float(top[inside].mean()), accuracy))
    return found


@dataclass(frozen=True, eq=False)
class Selective:
    """The errors that remain when the least confident items are left to somebody else."""

    coverage: np.ndarray
    """(M,), the shares of items answered, rising to 1; items of equal confidence are answered together"""
    risk: np.ndarray
    """(M,), the share of errors among those"""
    aurc: float
    """the mean risk over all coverages, 0 is best (Geifman, Uziel and El-Yaniv 2019)"""
    oracle: float
    """the least AURC that any order of the items has with as many errors"""

    def risk_at(self, coverage: float) -> float:
        """The risk at the least coverage that is not below `coverage`."""
        return float(self.risk[int(np.searchsorted(self.coverage, coverage - 1e-9))])

    def coverage_at(self, risk: float) -> float:
        """The largest coverage whose risk is at most `risk`; 0 where there is none."""
        allowed = self.coverage[self.risk <= risk + 1e-9]
        return float(allowed[-1]) if len(allowed) else 0.0


def selective_prediction(labels: np.ndarray, probabilities: np.ndarray) -> Selective:
    """The risk-coverage curve by the probability of the predicted class (El-Yaniv and Wiener 2010; Geifman and El-Yaniv
    2017, "Selective classification for deep neural networks").

    AURC is 1/N Σ_n risk of the n most confident items, where items of equal confidence all have the risk of their group
    as a whole. With k errors no order has less than 1/N Σ_{n > N - k} (n - N + k) / n.
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(labels) + 1)
    errors = np.cumsum(wrong[order])
    ends = np.append(np.flatnonzero(np.diff(confidence[order]) != 0), len(labels) - 1)
    groups = np.diff(ends, prepend=-1)
    risk = errors[ends] / answered[ends]
    best = np.maximum(answered - (len(labels) - errors[-1]), 0) / answered
    return Selective(answered[ends] / len(labels), risk, float(np.average(risk, weights=groups)), float(best.mean()))


def hardest(labels: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """The positions of the `count` items with the highest loss, -log of the probability of their label, highest first;
    equals in their order."""
    chance = probabilities[np.arange(len(labels)), labels]
    return np.argsort(chance, kind="stable")[:count]
