"""How sure a metric and a gain are: the percentile bootstrap over test items (Efron and Tibshirani 1993, ch. 13).

The metrics depend on the items only through how many fall into each cell (label, prediction). Drawing N items with
replacement therefore equals drawing the cells' counts from one multinomial distribution, which takes milliseconds
where drawing items takes seconds. The intervals describe the sampling of test items, not of training runs; where a
model makes no mistake at all, the bootstrap sees no variance and its interval has no width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headstart.errors import InputError
from headstart.evaluation.metrics import Counts, count, metric

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
    """The metric of integer labels (N,) and predictions (N,) in [0, classes_count), with its interval."""
    score = metric(metric_name)
    scores = np.concatenate(
        [score(counts) for (counts,) in _resample(labels, [predictions], classes_count, resamples, seed)]
    )
    return _percentile(float(score(count(labels, predictions, classes_count))), scores, confidence)


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
    """metric(predictions) - metric(baseline_predictions), with its interval; arrays (N,) as above.

    Every resample takes the same items for both, so what makes an item hard or easy for both cancels out.
    """
    score = metric(metric_name)
    both = [predictions, baseline_predictions]
    gains = np.concatenate(
        [score(ours) - score(theirs) for ours, theirs in _resample(labels, both, classes_count, resamples, seed)]
    )
    ours, theirs = (score(count(labels, each, classes_count)) for each in both)
    return _percentile(float(ours - theirs), gains, confidence)


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


def _percentile(value: float, resampled: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
