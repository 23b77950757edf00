"""Bootstrap intervals of metrics on a test split.

Items that belong together are drawn together (headstart/metrics/groups.py). The intervals describe the sampling of test
items, not of training runs. How often each kind of interval holds the truth: docs/studies/intervals.md.
"""

from collections.abc import Iterator
from typing import Unpack

import numpy as np

from headstart.metrics.calibration import ECE_BINS, calibration_gaps, expected_calibration_error
from headstart.metrics.groups import count_groups, critical_value, draw_groups, group_numbers
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metrics_of
from headstart.metrics.tally import CHUNK, Resampling, is_of_numbers, resample, tally, without_one
from headstart.metrics.wilson import share_interval


def bootstrap_interval(
    metric_name: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes_count: int,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Interval:
    """The metric of labels and predictions (N,), int in [0, classes_count) or numbers, or of several labels and scores
    (N, classes_count), with its interval.

    `groups` (N,), names or numbers, are equal for items that belong together.

    Accuracy is a proportion and has Wilson's interval. Other metrics have the bias-corrected and accelerated bootstrap
    (Efron 1987, "Better bootstrap confidence intervals"); where all resamples score alike, as with a model that makes
    no mistake, they have the width that a proportion of N items has.
    """
    score = METRICS[metric_name].of
    value = float(score(tally(labels, predictions, classes_count)))
    if metric_name == "accuracy":
        return share_interval(labels == predictions, groups, confidence=confidence)
    groups = group_numbers(groups)
    drawn = resample(labels, [predictions], classes_count, resamples, seed, groups)
    scores = np.concatenate([score(counts) for (counts,) in drawn])
    if np.ptp(scores) == 0 and is_of_numbers(labels):
        return Interval(value, value, value)
    if np.ptp(scores) == 0:
        room = 1 - share_interval(np.ones(len(labels), bool), groups, confidence=confidence).low
        return Interval(value, value * (1 - room), value + (1 - value) * room)
    left_out, sizes = without_one(metric_name, labels, predictions, classes_count, groups)
    low, high = np.quantile(scores, _bca_levels(value, scores, left_out, sizes, _ends(confidence, groups)))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def task_intervals(
    task: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int, **how: Unpack[Resampling]
) -> dict[str, Interval]:
    """Every metric of a task by its name, each with its `bootstrap_interval`."""
    return {name: bootstrap_interval(name, labels, predictions, classes_count, **how) for name in metrics_of(task)}


def metric_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Every metric of labels (N,) and probabilities (N, K) by its name, and `ece`, each with its interval; macro recall
    is left out, as it equals balanced accuracy.

    The calibration error of few items is too large, as chance makes gaps, and that of resamples more so (Kumar, Liang
    and Ma 2019, "Verified uncertainty calibration", section 5). Its interval is therefore the basic bootstrap's,
    [2e - q_high, 2e - q_low] with e the error found and q the resamples' quantiles, which takes as much off again.
    """
    predictions, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    found = {
        name: bootstrap_interval(
            name, labels, predictions, classes, confidence=confidence, resamples=resamples, seed=seed, groups=groups
        )
        for name in metrics_of("single_label")
        if name != "macro_recall"
    }
    found["ece"] = _calibration_interval(labels, probabilities, confidence, resamples, seed, group_numbers(groups))
    return found


def _calibration_interval(
    labels: np.ndarray,
    probabilities: np.ndarray,
    confidence: float,
    resamples: int,
    seed: int,
    groups: np.ndarray | None,
) -> Interval:
    error = expected_calibration_error(labels, probabilities)
    gaps, of_bin = calibration_gaps(labels, probabilities)
    from scipy.stats import norm

    if groups is None:
        levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        drawn = _errors_of_items(gaps, of_bin, resamples, seed)
    else:
        if not groups.any():
            return Interval(error, 0.0, 1.0)
        levels = norm.cdf(_ends(confidence, groups))
        drawn = _errors_of_groups(gaps, of_bin, groups, resamples, seed)
    low, high = np.quantile(np.concatenate(list(drawn)), levels)
    return Interval(error, min(error, max(0.0, 2 * error - high)), max(error, min(1.0, 2 * error - low)))


def _errors_of_items(gaps: np.ndarray, of_bin: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the calibration errors of chunks of resamples: N draws in each of all would fill the memory."""
    generator, count = np.random.default_rng(seed), len(gaps)
    chunk = max(1, CHUNK // count)
    for start in range(0, resamples, chunk):
        size = (min(chunk, resamples - start), count)
        items = generator.integers(0, count, size=size)
        cells = of_bin[items] + ECE_BINS * np.arange(size[0])[:, None]
        sums = np.bincount(cells.ravel(), weights=gaps[items].ravel(), minlength=ECE_BINS * size[0])
        yield np.abs(sums.reshape(-1, ECE_BINS)).sum(axis=1) / count


def _errors_of_groups(
    gaps: np.ndarray, of_bin: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield likewise those of resamples that draw groups."""
    generator, sizes = np.random.default_rng(seed), np.bincount(groups)
    sums = np.bincount(groups * ECE_BINS + of_bin, weights=gaps, minlength=len(sizes) * ECE_BINS)
    chunk = max(1, CHUNK // len(sizes))
    for start in range(0, resamples, chunk):
        times = draw_groups(groups, min(chunk, resamples - start), generator)
        yield np.abs(times @ sums.reshape(-1, ECE_BINS)).sum(axis=1) / (times @ sizes)


def _ends(confidence: float, groups: np.ndarray | None) -> np.ndarray:
    from scipy.stats import norm

    if groups is None:
        return norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    end = critical_value(confidence, count_groups(groups))
    return np.array([-end, end])


def _bca_levels(
    value: float, resampled: np.ndarray, left_out: np.ndarray, sizes: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """The levels (2,) of the resampled scores' quantiles that bound the interval, whose normal approximation has its
    `ends` (2,) there in standard errors: Efron 1987, equations 4.9 and 6.6."""
    from scipy.stats import norm

    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    bias = norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    influence = np.average(left_out, weights=sizes) - left_out
    squares = float(np.sum(sizes * influence**2))
    acceleration = float(np.sum(sizes * influence**3)) / (6 * squares**1.5) if squares else 0.0
    ends = bias + ends
    return norm.cdf(bias + ends / (1 - acceleration * ends))
