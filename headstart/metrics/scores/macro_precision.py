"""Macro precision: the mean over the classes of correct predictions among the predictions of the class."""

from headstart.metrics.counts import macro, precisions
from headstart.metrics.metric import Metric

METRIC = Metric("macro precision", lambda counts: macro(precisions(counts), counts))
