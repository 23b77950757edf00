"""Bootstrap intervals of metrics on a test split.

The metrics depend on the items only through how many fall into each cell (label, prediction). Drawing N items with
replacement therefore equals drawing the cells' counts from one multinomial distribution, which takes milliseconds
where drawing items, as `scipy.stats.bootstrap` does, takes seconds. The intervals describe the sampling of test items,
not of training runs. How often each kind of interval holds the truth: docs/studies/intervals.md.
"""

from collections.abc import Iterator

import numpy as np

from headstart.metrics.calibration import ECE_BINS, calibration_gaps, expected_calibration_error
from headstart.metrics.counts import Counts, count
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS
from headstart.metrics.wilson import wilson_interval

# Draws held at once: about 32 MB of counts.
_CHUNK = 2**22


def bootstrap_interval(
    metric_name: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes_count: int,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The metric of labels and predictions, both int (N,) in [0, classes_count), with its interval.

    Accuracy is a proportion and has Wilson's interval. Other metrics have the bias-corrected and accelerated bootstrap
    (Efron 1987, "Better bootstrap confidence intervals"); where all resamples score alike, as with a model that makes
    no mistake, they have the width that a proportion of N items has.
    """
    score = METRICS[metric_name].of
    counts = count(labels, predictions, classes_count)
    value = float(score(counts))
    if metric_name == "accuracy":
        return wilson_interval(int(counts.hits.sum()), len(labels), confidence=confidence)
    scores = np.concatenate(
        [score(counts) for (counts,) in resample(labels, [predictions], classes_count, resamples, seed)]
    )
    if np.ptp(scores) == 0:
        room = 1 - wilson_interval(len(labels), len(labels), confidence=confidence).low
        return Interval(value, value * (1 - room), value + (1 - value) * room)
    left_out, sizes = _without_one(metric_name, labels, predictions, classes_count)
    low, high = np.quantile(scores, _bca_levels(value, scores, left_out, sizes, confidence))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def metric_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
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
            name, labels, predictions, classes, confidence=confidence, resamples=resamples, seed=seed
        )
        for name in METRICS
        if name != "macro_recall"
    }
    found["ece"] = _calibration_interval(labels, probabilities, confidence, resamples, seed)
    return found


def _calibration_interval(
    labels: np.ndarray, probabilities: np.ndarray, confidence: float, resamples: int, seed: int
) -> Interval:
    error = expected_calibration_error(labels, probabilities)
    gaps, of_bin = calibration_gaps(labels, probabilities)
    generator = np.random.default_rng(seed)
    # Items are drawn a chunk at a time: N draws in each of many resamples would fill the memory.
    drawn = []
    chunk = max(1, _CHUNK // len(labels))
    for start in range(0, resamples, chunk):
        size = (min(chunk, resamples - start), len(labels))
        items = generator.integers(0, len(labels), size=size)
        cells = of_bin[items] + ECE_BINS * np.arange(size[0])[:, None]
        sums = np.bincount(cells.ravel(), weights=gaps[items].ravel(), minlength=ECE_BINS * size[0])
        drawn.append(np.abs(sums.reshape(-1, ECE_BINS)).sum(axis=1) / len(labels))
    low, high = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(error, min(error, max(0.0, 2 * error - high)), max(error, min(1.0, 2 * error - low)))


def resample(
    labels: np.ndarray, predictions: list[np.ndarray], classes_count: int, resamples: int, seed: int
) -> Iterator[list[Counts]]:
    """Yield chunks of resamples: for each set of predictions the counts (chunk, K) on the same drawn items."""
    cells, sizes = np.unique(np.stack([labels, *predictions], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // len(cells))
    for start in range(0, resamples, chunk):
        draws = generator.multinomial(len(labels), sizes / len(labels), size=min(chunk, resamples - start))
        label = cells[:, 0]
        labelled = _sum_by_class(draws, label, classes_count)
        yield [
            Counts(
                hits=_sum_by_class(draws[:, label == predicted], label[label == predicted], classes_count),
                labelled=labelled,
                predicted=_sum_by_class(draws, predicted, classes_count),
            )
            for predicted in cells[:, 1:].T
        ]


def _sum_by_class(draws: np.ndarray, class_of: np.ndarray, classes_count: int) -> np.ndarray:
    """The sums (R, classes_count) of the columns of draws (R, cells) that belong to one class."""
    order = np.argsort(class_of, kind="stable")
    present, starts = np.unique(class_of[order], return_index=True)
    sums = np.zeros((len(draws), classes_count), dtype=np.int64)
    sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _without_one(
    metric_name: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The metric without one item of each cell (cells,), and the numbers of items in the cells (cells,)."""
    cells, sizes = np.unique(np.stack([labels, predictions], axis=1), axis=0, return_counts=True)
    whole = count(labels, predictions, classes_count)
    one = np.eye(classes_count, dtype=np.int64)
    values = []
    for chunk in np.array_split(cells, max(1, len(cells) * classes_count // _CHUNK + 1)):
        label, predicted = one[chunk.T]
        left = Counts(whole.hits - label * predicted, whole.labelled - label, whole.predicted - predicted)
        values.append(METRICS[metric_name].of(left))
    return np.concatenate(values), sizes


def _bca_levels(
    value: float, resampled: np.ndarray, left_out: np.ndarray, sizes: np.ndarray, confidence: float
) -> np.ndarray:
    """The levels (2,) of the resampled scores' quantiles that bound the interval: Efron 1987, equations 4.9 and 6.6."""
    from scipy.stats import norm

    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    bias = norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    influence = np.average(left_out, weights=sizes) - left_out
    squares = float(np.sum(sizes * influence**2))
    acceleration = float(np.sum(sizes * influence**3)) / (6 * squares**1.5) if squares else 0.0
    ends = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    return norm.cdf(bias + ends / (1 - acceleration * ends))
