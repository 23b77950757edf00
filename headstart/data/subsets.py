"""Fewer samples that stand for all of them."""

import numpy as np

from headstart.data.several import one_each


def spread_out(labels: np.ndarray, most: int) -> np.ndarray:
    """At most `most` positions of items with labels (N,), rising, of which every class has its share; of several labels
    (N, K) each item stands with the one that the fewest have."""
    order = np.argsort(one_each(labels), kind="stable")
    taken = np.unique(np.linspace(0, len(labels) - 1, min(most, len(labels))).round().astype(int))
    positions: np.ndarray = np.sort(order[taken])
    return positions


def with_every_class(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The positions, rising, and for each class of labels int (N,) that none of them has the first item."""
    classes, first = np.unique(labels, return_index=True)
    return np.union1d(positions, first[~np.isin(classes, labels[positions])])
