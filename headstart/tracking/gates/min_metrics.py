"""Do metrics on the test split reach their limits?"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import create_model

from headstart.metrics.classification import score
from headstart.metrics.metric import METRICS, metric_title
from headstart.sections import Section, Share
from headstart.tracking.gate import Case, Gate, GateResult, Measured, result

_LIMITS: dict[str, Any] = dict.fromkeys(METRICS, (Share | None, None))
MinMetrics = create_model("MinMetrics", __base__=Section, __doc__="The limit of each metric.", **_LIMITS)


def _judge(name: str, limits: Section, case: Case) -> Iterator[GateResult]:
    for metric, limit in limits:
        if limit is not None:
            yield result(f"{name}.{metric}", ">=", limit, partial(_value, case, metric))


def _value(case: Case, metric: str) -> Measured:
    test = case.labelled_test
    value = score(metric, test.labels, test.probabilities.argmax(axis=1), len(test.classes))
    return value, f"{metric_title(metric)} on the test split"


GATE = Gate(MinMetrics, MinMetrics(), "for example {accuracy: 0.8, macro_f1: 0.75}", _judge, place=10)
