"""Micro F1: the harmonic mean of precision and recall over all labels of all items together."""

from headstart.metrics.counts import ratio
from headstart.metrics.metric import Metric

METRIC = Metric(
    "micro F1",
    lambda marks: ratio(2 * marks.hits.sum(axis=-1), (marks.labelled + marks.predicted).sum(axis=-1)),
    tasks=("multi_label",),
)
