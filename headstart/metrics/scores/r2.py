"""R²: the share of the labels' variance that predictions explain; 1 is perfect, 0 no better than the mean."""

from headstart.metrics.metric import Metric
from headstart.metrics.moments import coefficient_of_determination

METRIC = Metric("R²", coefficient_of_determination, tasks=("regression",))
