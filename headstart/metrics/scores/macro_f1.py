"""Macro F1: the mean over the classes of the harmonic mean of precision and recall."""

from headstart.metrics.counts import f1_scores, macro
from headstart.metrics.metric import CLASSES_OR_LABELS, Metric

METRIC = Metric("macro F1", lambda counts: macro(f1_scores(counts), counts), CLASSES_OR_LABELS)
