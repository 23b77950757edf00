"""R²: the share of the labels' variance that predictions explain; 1 is perfect, 0 no better than the mean."""

from headstart.metrics.metric import Metric
from headstart.metrics.moments import explained_variance

METRIC = Metric("R²", explained_variance, task="regression")
