"""Folds of stratified cross-validation."""

from collections.abc import Iterator

import numpy as np

FOLDS = 5


def stratified_folds(labels: np.ndarray, *, seed: int, folds: int = FOLDS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and held-out positions (rising) for each fold with a held-out sample, every class spread evenly.

    Every class is in every training part: the only sample of a class is never held out. `labels` is int (N,). Equal
    labels and seed give equal folds.
    """
    counts = np.bincount(labels)
    repeated = np.flatnonzero(counts[labels] > 1)
    order = np.random.default_rng(seed).permutation(repeated)
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.full(len(labels), -1, dtype=np.int64)
    # Assigned class by class, so that fold sizes differ by one sample at most.
    fold_of[by_class] = np.arange(len(by_class)) % folds
    for fold in range(min(folds, len(by_class))):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
