"""Folds of stratified cross-validation."""

from collections.abc import Iterator

import numpy as np

from headstart.data.strata import strata

FOLDS = 5
# The seed decides what one cross-validation of so few samples says. Standard deviation of the test accuracy of
# `classical` over seeds, two labels a class: .026 in the mean of 18 cells, and .009 in that of 16 with four repeats.
_FEW, _MOST_REPEATS = 100, 4


def stratified_folds(
    labels: np.ndarray, *, seed: int, folds: int = FOLDS, groups: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and held-out positions (rising) for each fold with a held-out sample, every class spread evenly.

    Every class is in every training part: the only sample of a class is never held out. `labels` is int (N,); numbers,
    float (N,), are spread by their `strata`. Samples
    of equal `groups`, int (N,), are held out together, and none that are alone in having a class. Equal labels, groups
    and seed give equal folds.
    """
    labels = strata(labels)
    if groups is not None:
        yield from _folds_of_groups(labels, groups, seed, folds)
        return
    counts = np.bincount(labels)
    repeated = np.flatnonzero(counts[labels] > 1)
    order = np.random.default_rng(seed).permutation(repeated)
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.full(len(labels), -1, dtype=np.int64)
    # Assigned class by class, so that fold sizes differ by one sample at most.
    fold_of[by_class] = np.arange(len(by_class)) % folds
    for fold in range(min(folds, len(by_class))):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def repeated_folds(
    labels: np.ndarray, *, seed: int, groups: np.ndarray | None = None
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[tuple[np.ndarray, np.ndarray]]]:
    """The `stratified_folds`, and those of all repeats of cross-validation with them, each with the next seed: four
    repeats up to 100 samples, two up to 200, else one."""
    repeats = max(1, min(_MOST_REPEATS, _MOST_REPEATS * _FEW // max(len(labels), 1)))
    folds = [list(stratified_folds(labels, seed=seed + number, groups=groups)) for number in range(repeats)]
    return folds[0], [fold for repeat in folds for fold in repeat]


def _folds_of_groups(
    labels: np.ndarray, groups: np.ndarray, seed: int, folds: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    units, first, unit_of = np.unique(groups, return_index=True, return_inverse=True)
    fold_of = np.full(len(units), -1, dtype=np.int64)
    # A group of several classes stands with that of its first sample.
    for fold, (_, held_out) in enumerate(stratified_folds(labels[first], seed=seed, folds=folds)):
        fold_of[held_out] = fold
    for fold in range(folds):
        held_out = fold_of[unit_of] == fold
        lost = np.setdiff1d(labels[held_out], labels[~held_out])
        held_out &= ~np.isin(unit_of, unit_of[np.isin(labels, lost)])
        if held_out.any():
            yield np.flatnonzero(~held_out), np.flatnonzero(held_out)


def in_repeated_classes(labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Whether the class of each sample has two or more samples, or of `groups`, int (N,), two or more: bool (N,)."""
    if groups is None:
        counts = np.bincount(labels)
    else:
        pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
        counts = np.bincount(pairs[:, 0], minlength=int(labels.max(initial=-1)) + 1)
    repeated: np.ndarray = counts[labels] > 1
    return repeated
