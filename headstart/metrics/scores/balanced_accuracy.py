"""Balanced accuracy: another name for macro recall, the mean recall of the classes."""

from headstart.metrics.counts import macro, recalls
from headstart.metrics.metric import Metric

METRIC = Metric("balanced accuracy", lambda counts: macro(recalls(counts), counts))
