"""Mean average precision: the mean over the labels of the area under precision against recall; thresholds do not
matter."""

from headstart.metrics.counts import macro
from headstart.metrics.metric import Metric

METRIC = Metric("mean average precision", lambda marks: macro(marks.precision, marks), tasks=("multi_label",))
