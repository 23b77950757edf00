"""Do metrics on the test split reach their limits?"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import create_model

from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.tally import score
from headstart.metrics.task import REGRESSION
from headstart.sections import Section, Share
from headstart.tracking.gate import Case, Gate, GateResult, Measured, NotAsked, Relation, result

_LIMITS: dict[str, Any] = {
    # An error is 0 or more, in the target's unit; R² may be below 0.
    name: ((float if REGRESSION in METRICS[name].tasks else Share) | None, None)
    for name in METRICS
}
MinMetrics = create_model("MinMetrics", __base__=Section, __doc__="The limit of each metric.", **_LIMITS)


def _judge(name: str, limits: Section, case: Case) -> Iterator[GateResult]:
    for metric, limit in limits:
        if limit is not None:
            relation: Relation = "<=" if METRICS[metric].lower_is_better else ">="
            yield result(f"{name}.{metric}", relation, limit, partial(_value, case, metric))


def _value(case: Case, metric: str) -> Measured:
    test = case.labelled_test
    if test.task not in METRICS[metric].tasks:
        raise NotAsked(f"its task is {test.task}")
    value = score(metric, test.labels, test.predicted, len(test.classes))
    return value, f"{metric_title(metric)} on the test split"


GATE = Gate(
    MinMetrics,
    MinMetrics(),
    "for example {accuracy: 0.8, macro_f1: 0.75}; of an error, such as mae, the largest",
    _judge,
    place=10,
)
