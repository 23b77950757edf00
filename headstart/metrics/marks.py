"""Several labels an item: what their metrics are computed from, for one test split or for thousands of resamples.

An item counts as often as it was drawn. Labels that nobody knows of an item count for nothing. Macro averages run over
the labels that some item has, as in `counts`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Scored:
    """Items with labels and scores, prepared to be counted many times."""

    labels: np.ndarray
    """int8 (N, K): 1 where an item has the label, 0 where it does not, -1 where that is not known"""
    scores: np.ndarray
    """float (N, K): a label is given where its score is 0 or more, and the higher the surer"""

    @cached_property
    def of_items(self) -> np.ndarray:
        """What each item adds to the hits, to the labelled and to the predicted ones: float32 (N, 3, K)."""
        has, given = self.labels == 1, (self.scores >= 0) & (self.labels >= 0)
        return np.stack([has & given, has, given], axis=1).astype(np.float32)

    @cached_property
    def ranked(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each label the positions of the items that are known to have it or not, by falling score; whether they
        have it; and for each the position among them of the last one with the same score."""
        found = []
        for has, scores in zip(self.labels.T, self.scores.T, strict=True):
            known = np.flatnonzero(has >= 0)
            order = known[np.argsort(-scores[known], kind="stable")]
            falling = -scores[order]
            found.append((order, has[order] == 1, np.searchsorted(falling, falling, side="right") - 1))
        return found


@dataclass(frozen=True, eq=False)
class Marks:
    """The counts by label, each (..., K), of items that count `weights` times, float32 (..., N)."""

    items: Scored
    weights: np.ndarray

    @cached_property
    def _sums(self) -> np.ndarray:
        count, *shape = self.items.of_items.shape
        sums = self.weights @ self.items.of_items.reshape(count, -1)
        return sums.reshape(*self.weights.shape[:-1], *shape)

    @property
    def hits(self) -> np.ndarray:
        """Items that have the label and were given it."""
        return self._sums[..., 0, :]

    @property
    def labelled(self) -> np.ndarray:
        """Items that have the label."""
        return self._sums[..., 1, :]

    @property
    def predicted(self) -> np.ndarray:
        """Items that were given the label."""
        return self._sums[..., 2, :]

    @cached_property
    def precision(self) -> np.ndarray:
        """The average precision of each label, Σ_n (R_n - R_n-1) P_n over the thresholds that its scores make
        (`sklearn.metrics.average_precision_score`); 0 for a label that no item has."""
        found = np.zeros(self.labelled.shape)
        for label, (order, has, last) in enumerate(self.items.ranked):
            drawn = self.weights[..., order]
            hits = drawn * has
            above, true = (np.cumsum(each, axis=-1, dtype=np.float64)[..., last] for each in (drawn, hits))
            shares = np.divide(true, above, out=np.zeros_like(true), where=above > 0)
            sums, total = (hits * shares).sum(axis=-1), hits.sum(axis=-1)
            found[..., label] = sums / np.where(total > 0, total, 1.0)
        return found


def wrong_labels(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many of the known labels of each item are given wrongly or not given, int (N,)."""
    wrong: np.ndarray = (((scores >= 0) != (labels == 1)) & (labels >= 0)).sum(axis=1)
    return wrong


def marks(labels: np.ndarray, scores: np.ndarray) -> Marks:
    """The marks (K,) of labels int8 (N, K) and scores (N, K), each item counting once."""
    return Marks(Scored(labels, scores), np.ones(len(labels), dtype=np.float32))
