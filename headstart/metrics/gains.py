"""Gains of models over one another on the same test items, with intervals that hold all at once (maxT)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.metrics.bootstrap import resample
from headstart.metrics.counts import count
from headstart.metrics.intervals import Interval, normal_quantile
from headstart.metrics.metric import METRICS


class Pair(NamedTuple):
    """Which two of several models are compared, by their positions."""

    ours: int
    theirs: int
    variance: float = 0.0
    """of the gain beside that of the test items, as by the seeds of trainings"""


def paired_bootstrap_gain(
    metric_name: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    baseline_predictions: np.ndarray,
    classes_count: int,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """metric(predictions) - metric(baseline_predictions), with its interval: `simultaneous_gains` of one pair."""
    return simultaneous_gains(
        metric_name,
        labels,
        [predictions, baseline_predictions],
        [Pair(0, 1)],
        classes_count,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )[0]


def simultaneous_gains(
    metric_name: str,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    pairs: Sequence[Pair],
    classes_count: int,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """For each pair metric(predictions[ours]) - metric(predictions[theirs]), with intervals that hold all at once.

    labels, and each of `predictions`: int (N,) in [0, classes_count). Every resample takes the same items for all, so
    what makes an item hard or easy for both of a pair cancels out. The intervals are gain ± c · se, where c is the
    quantile of the largest |resampled gain - gain| / sd over the pairs: the single-step maxT correction for comparing
    many (Westfall and Young 1993, "Resampling-based multiple testing"), which takes account of how alike the pairs are
    and corrects nothing for one pair. se² is the bootstrap's variance, the pair's own, and that of one item told apart
    (Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions", have two), as
    otherwise a few items that happen to agree would look like certainty. A pair that predicts the same has a gain of
    exactly 0.
    """
    score = METRICS[metric_name].of
    ours, theirs = (np.array([pair[side] for pair in pairs], dtype=int) for side in (0, 1))
    parts = []
    for each in resample(labels, list(predictions), classes_count, resamples, seed):
        scores = np.stack([score(counts) for counts in each])
        parts.append(scores[ours] - scores[theirs])
    resampled = np.concatenate(parts, axis=1)
    values = np.array([float(score(count(labels, each, classes_count))) for each in predictions])
    gains = values[ours] - values[theirs]
    spread = np.sqrt(np.mean((resampled - resampled.mean(axis=1, keepdims=True)) ** 2, axis=1))
    moving = spread > 0
    critical = normal_quantile(confidence)
    if moving.any():
        largest = (np.abs(resampled - gains[:, None])[moving] / spread[moving, None]).max(axis=0)
        # Where few items differ the resampled gains are few numbers, and their quantile may miss.
        critical = max(critical, float(np.quantile(largest, confidence)))
    differ = np.array([not np.array_equal(predictions[i], predictions[j]) for i, j, _ in pairs], dtype=bool)
    beside = np.array([pair.variance for pair in pairs])
    half = critical * np.sqrt(spread**2 + _one_item(metric_name, labels, classes_count) + beside) * differ
    return [Interval(*map(float, bounds)) for bounds in zip(gains, gains - half, gains + half, strict=True)]


def _one_item(metric_name: str, labels: np.ndarray, classes_count: int) -> float:
    """The mean square of what one item more or less changes: 1/N² for accuracy, and for the means over K classes, where
    an item of class k is one in n_k, the mean over the items of 1 / (K n_k)²."""
    if metric_name == "accuracy":
        return 1 / len(labels) ** 2
    sizes = np.bincount(labels, minlength=classes_count)
    sizes = sizes[sizes > 0]
    return float(np.sum(1 / sizes)) / (len(labels) * len(sizes) ** 2)
