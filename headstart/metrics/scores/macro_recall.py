"""Macro recall: the mean over the classes of correct predictions among the class's items."""

import numpy as np

from headstart.metrics.counts import Counts, macro, recalls
from headstart.metrics.metric import Metric


def macro_recall(counts: Counts) -> np.ndarray:
    return macro(recalls(counts), counts)


METRIC = Metric("macro recall", macro_recall)
