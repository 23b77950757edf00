"""Tallies: what every metric of a task is computed from, for one test split, for resamples and without one item.

Labels are the indices of classes, int (N,), of which `Counts` are taken; numbers, float (N,), of whose errors `Moments`
are; or several labels an item, int8 (N, K), with scores in the place of predictions, of which `Marks` are.
"""

from collections.abc import Iterator
from typing import TypedDict

import numpy as np

from headstart.metrics.counts import Counts, count
from headstart.metrics.groups import draw_groups
from headstart.metrics.marks import Marks, Scored, marks
from headstart.metrics.metric import METRICS
from headstart.metrics.moments import Moments, moments, summands

Tally = Counts | Moments | Marks

# Draws held at once: about 32 MB of counts.
CHUNK = 2**22
# Parts of several labels' items that are left out in turn: more take long, and tell the skewness no better.
_PARTS = 500


class Resampling(TypedDict, total=False):
    """How test items are resampled."""

    confidence: float
    """of the intervals, by default 0.95"""
    resamples: int
    """by default 2000"""
    seed: int
    """by default 0"""
    groups: np.ndarray | None
    """(N,), names or numbers that are equal for items that belong together, and are drawn together"""


def score(name: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> float:
    """The metric called `name` of labels (N,) and predictions (N,): integers in [0, K) with K classes, or numbers."""
    return float(METRICS[name].of(tally(labels, predictions, classes_count)))


def is_of_classes(labels: np.ndarray) -> bool:
    """Whether labels are the indices of classes, one for each item."""
    return labels.ndim == 1 and labels.dtype.kind != "f"


def is_of_numbers(labels: np.ndarray) -> bool:
    """Whether labels are numbers, one for each item."""
    return labels.dtype.kind == "f"


def is_of_several(labels: np.ndarray) -> bool:
    """Whether labels (N, K) say of each of K labels which items have it."""
    return labels.ndim == 2


def tally(labels: np.ndarray, predictions: np.ndarray, classes_count: int) -> Tally:
    """The tally of labels and predictions."""
    if is_of_several(labels):
        return marks(labels, predictions)
    return count(labels, predictions, classes_count) if is_of_classes(labels) else moments(labels, predictions)


def resample(
    labels: np.ndarray,
    predictions: list[np.ndarray],
    classes_count: int,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> Iterator[list[Tally]]:
    """Yield chunks of resamples: for each set of predictions the tally (chunk, …) of the same drawn items.

    With `groups` of `group_numbers` whole groups are drawn.
    """
    if is_of_several(labels):
        yield from _marks(labels, predictions, resamples, seed, groups)
    elif is_of_classes(labels):
        yield from _counts(labels, predictions, classes_count, resamples, seed, groups)
    else:
        yield from _moments(labels, predictions, resamples, seed, groups)


def _counts(
    labels: np.ndarray,
    predictions: list[np.ndarray],
    classes_count: int,
    resamples: int,
    seed: int,
    groups: np.ndarray | None,
) -> Iterator[list[Tally]]:
    # The counts depend on the items only through how many fall into each cell (label, prediction). Drawing N items with
    # replacement therefore equals drawing the cells' counts from one multinomial distribution, which takes milliseconds
    # where drawing items, as `scipy.stats.bootstrap` does, takes seconds.
    columns = [labels, *predictions, *([] if groups is None else [groups])]
    cells, sizes = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK // len(cells))
    for start in range(0, resamples, chunk):
        number = min(chunk, resamples - start)
        if groups is None:
            draws = generator.multinomial(len(labels), sizes / len(labels), size=number)
        else:
            draws = draw_groups(groups, number, generator)[:, cells[:, -1]] * sizes
        label = cells[:, 0]
        labelled = _sum_by_class(draws, label, classes_count)
        yield [
            Counts(
                hits=_sum_by_class(draws[:, label == predicted], label[label == predicted], classes_count),
                labelled=labelled,
                predicted=_sum_by_class(draws, predicted, classes_count),
            )
            for predicted in cells[:, 1 : 1 + len(predictions)].T
        ]


def _marks(
    labels: np.ndarray, predictions: list[np.ndarray], resamples: int, seed: int, groups: np.ndarray | None
) -> Iterator[list[Tally]]:
    scored = [Scored(labels, each) for each in predictions]
    generator, units = np.random.default_rng(seed), np.arange(len(labels)) if groups is None else groups
    chunk = max(1, CHUNK // len(labels))
    for start in range(0, resamples, chunk):
        draws = draw_groups(units, min(chunk, resamples - start), generator)[:, units].astype(np.float32)
        yield [Marks(each, draws) for each in scored]


def _moments(
    labels: np.ndarray, predictions: list[np.ndarray], resamples: int, seed: int, groups: np.ndarray | None
) -> Iterator[list[Tally]]:
    added = [_by_unit(summands(labels, each), groups) for each in predictions]
    generator, units = np.random.default_rng(seed), np.arange(len(labels)) if groups is None else groups
    chunk = max(1, CHUNK // (int(units.max()) + 1))
    for start in range(0, resamples, chunk):
        draws = draw_groups(units, min(chunk, resamples - start), generator)
        yield [Moments.of_sums(each @ draws.T) for each in added]


def without_one(
    metric_name: str, labels: np.ndarray, predictions: np.ndarray, classes_count: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The metric without one item of each cell (cells,), and the numbers of items in the cells (cells,); of `groups`
    the metric without each of them (G,), and ones (G,). Each number that was measured is a cell of its own; of several
    labels up to 500 parts of the items or groups are left out in turn."""
    of = METRICS[metric_name].of
    if is_of_several(labels):
        units = np.arange(len(labels)) if groups is None else groups
        parts = min(_PARTS, int(units.max()) + 1)
        # Units of one part are far apart.
        weights = (units % parts != np.arange(parts)[:, None]).astype(np.float32)
        return of(Marks(Scored(labels, predictions), weights)), np.ones(parts, dtype=np.int64)
    if is_of_numbers(labels):
        added = _by_unit(summands(labels, predictions), groups)
        return of(Moments.of_sums(added.sum(axis=1, keepdims=True) - added)), np.ones(added.shape[1], dtype=np.int64)
    whole = count(labels, predictions, classes_count)
    if groups is None:
        cells, sizes = np.unique(np.stack([labels, predictions], axis=1), axis=0, return_counts=True)
        label, predicted, unit_of = *cells.T, np.arange(len(cells))
    else:
        sizes = np.ones(groups.max() + 1, dtype=np.int64)
        order = np.argsort(groups, kind="stable")
        label, predicted, unit_of = labels[order], predictions[order], groups[order]
    values = []
    for units in np.array_split(np.arange(len(sizes)), max(1, len(sizes) * classes_count // CHUNK + 1)):
        rows = slice(*np.searchsorted(unit_of, [units[0], units[-1] + 1]))
        unit, truth, told = unit_of[rows] - units[0], label[rows], predicted[rows]
        right = truth == told
        hits, labelled, taken = (
            _counts_of(unit[items], classes[items], len(units), classes_count)
            for items, classes in ((right, truth), (slice(None), truth), (slice(None), told))
        )
        values.append(of(Counts(whole.hits - hits, whole.labelled - labelled, whole.predicted - taken)))
    return np.concatenate(values), sizes


def one_unit(metric_name: str, labels: np.ndarray, classes_count: int, groups: np.ndarray | None) -> float:
    """The mean square of what one item more or less changes, where it counts as right or wrong: 1/N² for accuracy, and
    for the means over K classes, where an item of class k is one in n_k, the mean over the items of 1 / (K n_k)². A
    group changes what its items do together, and the mean is over the groups. Of numbers, whose differences are seldom
    0 by chance, 0. Of several labels an item is one in n_k of each label k that it has."""
    if is_of_several(labels):
        has = labels == 1
        sizes = has.sum(axis=0)
        weights = has[:, sizes > 0] / ((sizes > 0).sum() * sizes[sizes > 0])
        if groups is None:
            return float(np.sum(weights**2)) / len(labels)
        return float(np.mean(np.bincount(groups, weights=weights.sum(axis=1)) ** 2))
    if is_of_numbers(labels):
        return 0.0
    sizes = np.bincount(labels, minlength=classes_count)
    occurring = sizes[sizes > 0]
    if groups is not None:
        weights = np.full(len(labels), 1 / len(labels))
        if metric_name != "accuracy":
            weights = 1 / (len(occurring) * sizes[labels])
        return float(np.mean(np.bincount(groups, weights=weights) ** 2))
    if metric_name == "accuracy":
        return 1 / len(labels) ** 2
    return float(np.sum(1 / occurring)) / (len(labels) * len(occurring) ** 2)


def _by_unit(added: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The summands (5, N) of items, added up within each group: (5, G)."""
    return added if groups is None else np.stack([np.bincount(groups, weights=row) for row in added])


def _sum_by_class(draws: np.ndarray, class_of: np.ndarray, classes_count: int) -> np.ndarray:
    """The sums (R, classes_count) of the columns of draws (R, cells) that belong to one class."""
    order = np.argsort(class_of, kind="stable")
    present, starts = np.unique(class_of[order], return_index=True)
    sums = np.zeros((len(draws), classes_count), dtype=np.int64)
    sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _counts_of(units: np.ndarray, class_of: np.ndarray, units_count: int, classes_count: int) -> np.ndarray:
    """How many items (units_count, classes_count) of each unit are in each class."""
    cells = np.bincount(units * classes_count + class_of, minlength=units_count * classes_count)
    return cells.reshape(units_count, classes_count)
