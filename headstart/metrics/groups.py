"""Items that belong together: pictures of one patient, recordings of one speaker, near duplicates.

Items of one group say less than as many that were drawn alone, so that all intervals count groups. Resamples draw whole
groups (cluster bootstrap: Field and Welsh 2007, "Bootstrapping clustered data"; Cameron, Gelbach and Miller 2008,
"Bootstrap-based improvements for inference with clustered errors"). A proportion has Wilson's interval at its effective
number of items, as no bootstrap tells how sure a share of 0 or 1 is. Groups are often few, so that the normal quantile
gives way to Student's t of G - 1 degrees of freedom. Without groups all formulas are those of independent items.
"""

import numpy as np

from headstart.metrics.intervals import Interval, normal_quantile


def group_numbers(groups: np.ndarray | None) -> np.ndarray | None:
    """The group of each item as a number, int (N,) from 0 on without gaps; None where every item is alone.

    `groups` (N,) are names, "" for an item that is alone, or numbers.
    """
    if groups is None or len(groups) == 0:
        return None
    _, numbers = np.unique(groups, return_inverse=True)
    if groups.dtype.kind == "U":
        alone = groups == ""
        numbers[alone] = len(groups) + np.arange(alone.sum())
        _, numbers = np.unique(numbers, return_inverse=True)
    return None if numbers.max() + 1 == len(numbers) else numbers


def count_groups(groups: np.ndarray | None) -> int | None:
    """The number of groups, an item alone being one; None where every item is alone."""
    numbers = group_numbers(groups)
    return None if numbers is None else int(numbers.max()) + 1


def groups_at(groups: np.ndarray | None, items: np.ndarray) -> np.ndarray | None:
    """The groups of some of the items, given by their positions or a mask."""
    return None if groups is None else groups[items]


def of_groups(groups: int | None) -> str:
    """The end of "1,200 test items of 40 groups"; nothing where every item is alone."""
    return f" of {groups:,} groups" if groups else ""


def critical_value(confidence: float, groups: int | None) -> float:
    """The number of bootstrap standard errors from an estimate to the end of its interval.

    Without groups the normal quantile z; of G groups t · √(G / (G - 1)), which also makes up for the variance that a
    resample of few lacks (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.5.3); infinite
    for one group, which says nothing about others.
    """
    if groups is None:
        return normal_quantile(confidence)
    return float("inf") if groups == 1 else _student(confidence, groups) * (groups / (groups - 1)) ** 0.5


def effective_items(right: np.ndarray, groups: np.ndarray | None, *, confidence: float) -> float:
    """The number of independent items whose share of hits would be as sure as that of `right`, bool (N,), in groups.

    N over the design effect, the variance of the share between groups over that of N independent items (Kish 1965,
    "Survey sampling", section 8.2), at most N, times (z / t)² for the few groups (Korn and Graubard 1998, "Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data"). Where all
    items are right or all are wrong, their variance is unknown: then each group of n_g items is taken for one item,
    which makes N² / Σ n_g². 0 for a single group.
    """
    items, numbers = len(right), group_numbers(groups)
    if numbers is None:
        return items
    sizes = np.bincount(numbers)
    if len(sizes) == 1:
        return 0.0
    share = float(right.mean())
    independent = share * (1 - share) / items
    off = np.bincount(numbers, weights=right) - share * sizes
    between = len(sizes) / (len(sizes) - 1) * float(np.sum(off**2)) / items**2
    if independent == 0:
        effective = items**2 / float(np.sum(sizes**2))
    else:
        effective = items * min(1.0, independent / between) if between else float(items)
    return effective * (normal_quantile(confidence) / _student(confidence, len(sizes))) ** 2


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None, *, confidence: float = 0.95) -> Interval:
    """The mean of values, float (N,), with Student's interval over the groups, or over the items where all are alone;
    endless for one of them."""
    numbers = group_numbers(groups)
    sums = np.bincount(np.arange(len(values)) if numbers is None else numbers, weights=values - values.mean())
    mean = float(values.mean())
    error = float(np.sqrt(np.sum(sums**2))) / len(values)
    half = critical_value(confidence, len(sums)) * error if len(sums) > 1 else float("inf")
    return Interval(mean, mean - half, mean + half)


def _student(confidence: float, groups: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, groups - 1))


def draw_groups(groups: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of the G groups of `group_numbers` is drawn, int (resamples, G): G draws with replacement."""
    count = int(groups.max()) + 1
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples)
