"""Balanced accuracy: another name for macro recall, the mean recall of the classes."""

import numpy as np

from headstart.metrics.counts import Counts, macro, recalls
from headstart.metrics.metric import Metric


def balanced_accuracy(counts: Counts) -> np.ndarray:
    return macro(recalls(counts), counts)


METRIC = Metric("balanced accuracy", balanced_accuracy)
