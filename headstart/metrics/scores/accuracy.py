"""Accuracy: correct predictions among all."""

import numpy as np

from headstart.metrics.counts import Counts, ratio
from headstart.metrics.metric import Metric


def accuracy(counts: Counts) -> np.ndarray:
    return ratio(counts.hits.sum(axis=-1), counts.labelled.sum(axis=-1))


METRIC = Metric("accuracy", accuracy)
