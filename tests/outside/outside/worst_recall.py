"""Worst recall: that of the class which is recognised least."""

import numpy as np

from headstart.metrics.counts import Counts, recalls
from headstart.metrics.metric import Metric


def worst_recall(counts: Counts) -> np.ndarray:
    return np.where(counts.labelled > 0, recalls(counts), 1.0).min(axis=-1)


METRIC = Metric("worst recall", worst_recall)
