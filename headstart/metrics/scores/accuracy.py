"""Accuracy: correct predictions among all."""

from headstart.metrics.counts import ratio
from headstart.metrics.metric import Metric

METRIC = Metric("accuracy", lambda counts: ratio(counts.hits.sum(axis=-1), counts.labelled.sum(axis=-1)))
