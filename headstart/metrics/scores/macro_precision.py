"""Macro precision: the mean over the classes of correct predictions among the predictions of the class."""

import numpy as np

from headstart.metrics.counts import Counts, macro, precisions
from headstart.metrics.metric import Metric


def macro_precision(counts: Counts) -> np.ndarray:
    return macro(precisions(counts), counts)


METRIC = Metric("macro precision", macro_precision)
