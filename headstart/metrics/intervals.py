"""How sure a metric and a gain are, also when several strategies are compared at once.

The metrics depend on the items only through how many fall into each cell (label, prediction). Drawing N items with
replacement therefore equals drawing the cells' counts from one multinomial distribution, which takes milliseconds
where drawing items takes seconds. The intervals describe the sampling of test items, not of training runs.

Which interval, was decided by how often it holds the truth (1000 draws of 60 to 1200 items, balanced and not): at 150
items and an accuracy of .95 the percentile bootstrap does in 92% of draws; Wilson's interval for proportions, the BCa
bootstrap for other scores and a standard error with one item more for gains do in 93% to 96%. With classes of three
items each, no interval for a macro metric does: 86%.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headstart.errors import InputError
from headstart.metrics.classification import ECE_BINS, calibration_gaps, expected_calibration_error
from headstart.metrics.counts import Counts, count
from headstart.metrics.metric import METRICS

Verdict = Literal["helped", "no evidence", "hurt"]

# Draws held at once: about 32 MB of counts.
_CHUNK = 2**22


@dataclass(frozen=True)
class Interval:
    """A point estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


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
    """The metric of integer labels (N,) and predictions (N,) in [0, classes_count), with its interval.

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
        [score(counts) for (counts,) in _resample(labels, [predictions], classes_count, resamples, seed)]
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
    """Every metric of labels (N,) and probabilities (N, K) by its name, and `ece`, each with its interval.

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
    found["ece"] = Interval(error, min(error, max(0.0, 2 * error - high)), max(error, min(1.0, 2 * error - low)))
    return found


@dataclass(frozen=True)
class ClassIntervals:
    """What is sure about one class."""

    name: str
    support: int
    """items of the class"""
    precision: Interval
    recall: Interval
    f1: Interval


def class_intervals(
    labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str], *, confidence: float = 0.95
) -> list[ClassIntervals]:
    """Precision, recall and F1 of each class with Wilson's intervals.

    Precision is a proportion of the items predicted as the class, recall one of those labelled as it. F1 is
    2j / (1 + j) with j the share of hits among the items that are labelled or predicted as the class, a proportion too;
    as that grows with j, the bounds of j give those of F1.
    """
    counts = count(labels, predictions, len(classes))
    found = []
    for name, hits, labelled, predicted in zip(
        classes, counts.hits.tolist(), counts.labelled.tolist(), counts.predicted.tolist(), strict=True
    ):
        precision, recall, shared = (
            wilson_interval(hits, items, confidence=confidence)
            for items in (predicted, labelled, labelled + predicted - hits)
        )
        f1 = Interval(*(2 * bound / (1 + bound) for bound in (shared.value, shared.low, shared.high)))
        found.append(ClassIntervals(name, labelled, precision, recall, f1))
    return found


def wilson_interval(hits: int, items: int, *, confidence: float = 0.95) -> Interval:
    """The proportion hits / items with Wilson's score interval (Wilson 1927; Brown, Cai and DasGupta 2001).

    Of no items nothing is known: 0 in [0, 1].
    """
    if items == 0:
        return Interval(0.0, 0.0, 1.0)
    share, z = hits / items, _normal_quantile((1 + confidence) / 2)
    centre = (share + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z / (1 + z**2 / items) * np.sqrt(share * (1 - share) / items + z**2 / (4 * items**2))
    return Interval(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


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
        [(0, 1)],
        classes_count,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )[0]


def simultaneous_gains(
    metric_name: str,
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    pairs: Sequence[tuple[int, int]],
    classes_count: int,
    *,
    variances: Sequence[float] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """For each pair (i, j) metric(predictions[i]) - metric(predictions[j]), with intervals that hold all at once.

    labels, and each of `predictions`: int (N,) in [0, classes_count). Every resample takes the same items for all, so
    what makes an item hard or easy for both of a pair cancels out. The intervals are gain ± c · se, where c is the
    quantile of the largest |resampled gain - gain| / sd over the pairs: the single-step maxT correction for comparing
    many (Westfall and Young 1993, "Resampling-based multiple testing"), which knows how alike the pairs are and for one
    pair corrects nothing. se² is the bootstrap's variance and that of one item told apart (Agresti and Min 2005,
    "Simple improved confidence intervals for comparing matched proportions", have two): otherwise a few items that
    happen to agree would look like certainty. `variances` are those that each gain has beside, as by the seeds of
    trainings. Where the predictions of a pair are the same, so is its gain: exactly 0.
    """
    score = METRICS[metric_name].of
    ours, theirs = np.array([i for i, _ in pairs], dtype=int), np.array([j for _, j in pairs], dtype=int)
    parts = []
    for each in _resample(labels, list(predictions), classes_count, resamples, seed):
        scores = np.stack([score(counts) for counts in each])
        parts.append(scores[ours] - scores[theirs])
    resampled = np.concatenate(parts, axis=1)
    values = np.array([float(score(count(labels, each, classes_count))) for each in predictions])
    gains = values[ours] - values[theirs]
    spread = np.sqrt(np.mean((resampled - resampled.mean(axis=1, keepdims=True)) ** 2, axis=1))
    differ = np.array([not np.array_equal(predictions[i], predictions[j]) for i, j in pairs], dtype=bool)
    moving = spread > 0
    critical = _normal_quantile((1 + confidence) / 2)
    if moving.any():
        largest = (np.abs(resampled - gains[:, None])[moving] / spread[moving, None]).max(axis=0)
        # Where few items differ the resampled gains are few numbers, and their quantile may miss.
        critical = max(critical, float(np.quantile(largest, confidence)))
    beside = np.array(variances) if len(variances) else np.zeros(len(pairs))
    half = critical * np.sqrt(spread**2 + _one_item(metric_name, labels, classes_count) + beside) * differ
    return [
        Interval(float(gain), float(gain - width), float(gain + width)) for gain, width in zip(gains, half, strict=True)
    ]


def mcnemar_p(labels: np.ndarray, predictions: np.ndarray, other_predictions: np.ndarray) -> float:
    """How likely accuracies that differ this much are if the two are equally accurate; arrays (N,) as above.

    McNemar's exact test, two-sided: of the items that exactly one of the two gets right, each is as likely to be the
    one's as the other's (McNemar 1947, "Note on the sampling error of the difference between correlated proportions";
    exact form: Dietterich 1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms"). In (0, 1]; 1 where the two are right on the same items.
    """
    from scipy.stats import binomtest

    right, other_right = predictions == labels, other_predictions == labels
    ours, theirs = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0


def holm(probabilities: Sequence[float]) -> list[float]:
    """The p-values of several tests, each as large as it must be for all of them together (Holm 1979, "A simple
    sequentially rejective multiple test procedure"): the i-th smallest of m times m - i, at least the one before."""
    order = np.argsort(probabilities, kind="stable")
    adjusted, largest = [1.0] * len(probabilities), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(probabilities[position])))
        adjusted[int(position)] = largest
    return adjusted


def verdict(gain: Interval, min_gain: float = 0.0) -> Verdict:
    """ "helped" if the whole interval lies above `min_gain` ≥ 0, "hurt" if it lies below 0, else "no evidence"."""
    if not min_gain >= 0:
        raise InputError(f"evaluation.min_gain is {min_gain}; the least gain that counts is 0 or more.")
    if gain.low > min_gain:
        return "helped"
    return "hurt" if gain.high < 0 else "no evidence"


def _resample(
    labels: np.ndarray, predictions: list[np.ndarray], classes_count: int, resamples: int, seed: int
) -> Iterator[list[Counts]]:
    """Chunks of resamples: for each set of predictions the counts (chunk, K) on the same drawn items."""
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
    """Sums the columns of draws (R, cells) that belong to one class, giving (R, classes_count)."""
    order = np.argsort(class_of, kind="stable")
    present, starts = np.unique(class_of[order], return_index=True)
    sums = np.zeros((len(draws), classes_count), dtype=np.int64)
    sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _without_one(
    metric_name: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The metric without one item of each cell (cells,), and how many items the cell has (cells,)."""
    cells, sizes = np.unique(np.stack([labels, predictions], axis=1), axis=0, return_counts=True)
    whole = count(labels, predictions, classes_count)
    values = []
    for chunk in np.array_split(cells, max(1, len(cells) * classes_count // _CHUNK + 1)):
        rows = np.arange(len(chunk))
        label, predicted = chunk.T
        left = [np.repeat(counts[None], len(chunk), axis=0) for counts in (whole.hits, whole.labelled, whole.predicted)]
        left[0][rows, label] -= label == predicted
        left[1][rows, label] -= 1
        left[2][rows, predicted] -= 1
        values.append(METRICS[metric_name].of(Counts(*left)))
    return np.concatenate(values), sizes


def _bca_levels(
    value: float, resampled: np.ndarray, left_out: np.ndarray, sizes: np.ndarray, confidence: float
) -> np.ndarray:
    """Which quantiles of the resampled scores bound the interval, (2,): Efron 1987, equations 4.9 and 6.6."""
    from scipy.stats import norm

    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    bias = norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    influence = np.average(left_out, weights=sizes) - left_out
    squares = float(np.sum(sizes * influence**2))
    acceleration = float(np.sum(sizes * influence**3)) / (6 * squares**1.5) if squares else 0.0
    ends = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    levels: np.ndarray = norm.cdf(bias + ends / (1 - acceleration * ends))
    return levels


def _one_item(metric_name: str, labels: np.ndarray, classes_count: int) -> float:
    """The mean square of what one item more or less changes: 1/N² for accuracy, and for the means over K classes, where
    an item of class k is one in n_k, the mean over the items of 1 / (K n_k)²."""
    sizes = np.bincount(labels, minlength=classes_count)
    sizes = sizes[sizes > 0]
    if metric_name == "accuracy":
        return 1 / len(labels) ** 2
    return float(np.sum(1 / sizes)) / (len(labels) * len(sizes) ** 2)


def _normal_quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(level)
