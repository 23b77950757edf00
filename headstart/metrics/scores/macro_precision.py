"""Macro precision: the mean over the classes of correct predictions among the predictions of the class."""

from headstart.metrics.counts import macro, precisions
from headstart.metrics.metric import CLASSES_OR_LABELS, Metric

METRIC = Metric("macro precision", lambda counts: macro(precisions(counts), counts), CLASSES_OR_LABELS)
