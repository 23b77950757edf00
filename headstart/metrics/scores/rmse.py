"""Root mean squared error, in the target's unit: large errors weigh more than in the mean absolute error."""

from headstart.metrics.metric import Metric
from headstart.metrics.moments import root_mean_squared_error

METRIC = Metric("RMSE", root_mean_squared_error, tasks=("regression",), lower_is_better=True)
