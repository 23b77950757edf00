"""Gains of models over one another on the same test items, with intervals that hold all at once (maxT)."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import numpy as np

from headstart.metrics.groups import count_groups, critical_value, group_numbers
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS
from headstart.metrics.tally import Resampling, is_of_numbers, one_unit, resample, tally


class Pair(NamedTuple):
    """Which two of several models are compared, by their positions."""

    ours: int
    theirs: int
    variance: float = 0.0
    """of the gain beside that of the test items, as by the seeds of trainings"""
    freedom: float = np.inf
    """the degrees of freedom of the estimate of `variance`: one less than the trainings that it was estimated from"""


def paired_bootstrap_gain(
    metric_name: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    baseline_predictions: np.ndarray,
    classes_count: int,
    **how: Unpack[Resampling],
) -> Interval:
    """By how much predictions are better than a baseline's, with its interval: `simultaneous_gains` of one pair."""
    both = [predictions, baseline_predictions]
    return simultaneous_gains(metric_name, labels, both, [Pair(0, 1)], classes_count, **how)[0]


def simultaneous_gains(
    metric_name: str,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    pairs: Sequence[Pair],
    classes_count: int,
    **how: Unpack[Resampling],
) -> list[Interval]:
    """For each pair metric(predictions[ours]) - metric(predictions[theirs]), the other way round where lower is better,
    with intervals that hold all at once.

    labels, and each of `predictions`: (N,), int in [0, classes_count) or numbers, or several labels and scores
    (N, classes_count). Every resample takes the same items
    for all, so what makes an item hard or easy for both of a pair cancels out. The intervals are gain ± c · se, where c
    is the quantile of the largest |resampled gain - gain| / sd over the pairs: the single-step maxT correction for
    comparing many (Westfall and Young 1993, "Resampling-based multiple testing"), which takes account of how alike the
    pairs are and corrects nothing for one pair. se² is the bootstrap's variance, the pair's own, and that of one item
    told apart (Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions", have
    two), as otherwise a few items that happen to agree would look like certainty. Where the pair's own variance was
    estimated from few trainings, c is wider as Student's t is than the normal distribution, at the degrees of freedom
    of the sum (Satterthwaite 1946). A pair that predicts the same has a gain of exactly 0. With groups, these take the
    place of items throughout, and c is at least `critical_value`.
    """
    metric, confidence = METRICS[metric_name], how.get("confidence", 0.95)
    score, sign = metric.of, metric.merit(1.0)
    groups = group_numbers(how.get("groups"))
    ours, theirs = (np.array(side, dtype=int) for side in ([p.ours for p in pairs], [p.theirs for p in pairs]))
    parts, resamples, seed = [], how.get("resamples", 2000), how.get("seed", 0)
    for each in resample(labels, list(predictions), classes_count, resamples, seed, groups):
        scores = np.stack([score(counts) for counts in each])
        parts.append(sign * (scores[ours] - scores[theirs]))
    resampled = np.concatenate(parts, axis=1)
    values = np.array([float(score(tally(labels, each, classes_count))) for each in predictions])
    gains = sign * (values[ours] - values[theirs])
    spread = np.sqrt(np.mean((resampled - resampled.mean(axis=1, keepdims=True)) ** 2, axis=1))
    moving = spread > 0
    critical = critical_value(confidence, count_groups(groups))
    if moving.any():
        largest = (np.abs(resampled - gains[:, None])[moving] / spread[moving, None]).max(axis=0)
        # Where few items differ the resampled gains are few numbers, and their quantile may miss.
        critical = max(critical, float(np.quantile(largest, confidence)))
    differ = np.array([not np.array_equal(predictions[p.ours], predictions[p.theirs]) for p in pairs], dtype=bool)
    beside = np.array([pair.variance for pair in pairs])
    variance = spread**2 + one_unit(metric_name, labels, classes_count, groups) + beside
    half = critical * _widening(variance, beside, [pair.freedom for pair in pairs], confidence) * np.sqrt(variance)
    # One group leaves everything open, and no gain of a share lies outside of [-1, 1].
    half = np.where(differ, np.minimum(half, np.finfo(float).max if is_of_numbers(labels) else 2.0), 0.0)
    return [Interval(*map(float, bounds)) for bounds in zip(gains, gains - half, gains + half, strict=True)]


def _widening(variance: np.ndarray, estimated: np.ndarray, freedom: Sequence[float], confidence: float) -> np.ndarray:
    """By how much Student's t is wider than the normal distribution where a part of `variance` (M,) was `estimated`
    (M,) with so many degrees of freedom."""
    from scipy.stats import norm, t

    share = np.divide(estimated, variance, out=np.zeros_like(variance), where=variance > 0)
    whole = np.divide(np.array(freedom, dtype=float), share**2, out=np.full_like(variance, np.inf), where=share > 0)
    tail = (1 + confidence) / 2
    widening: np.ndarray = t.ppf(tail, whole) / norm.ppf(tail)
    return widening
