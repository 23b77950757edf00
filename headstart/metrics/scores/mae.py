"""Mean absolute error: the mean distance of a predicted number from the true one, in the target's unit."""

from headstart.metrics.metric import Metric
from headstart.metrics.moments import mean_absolute_error

METRIC = Metric("MAE", mean_absolute_error, tasks=("regression",), lower_is_better=True)
