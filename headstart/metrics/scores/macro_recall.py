"""Macro recall: the mean over the classes of correct predictions among the class's items."""

from headstart.metrics.counts import macro, recalls
from headstart.metrics.metric import CLASSES_OR_LABELS, Metric

METRIC = Metric("macro recall", lambda counts: macro(recalls(counts), counts), CLASSES_OR_LABELS)
