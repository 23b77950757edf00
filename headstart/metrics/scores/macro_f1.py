"""Macro F1: the mean over the classes of the harmonic mean of precision and recall."""

import numpy as np

from headstart.metrics.counts import Counts, f1_scores, macro
from headstart.metrics.metric import Metric


def macro_f1(counts: Counts) -> np.ndarray:
    return macro(f1_scores(counts), counts)


METRIC = Metric("macro F1", macro_f1)
