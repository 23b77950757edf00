"""Is it better than the champion, or at least not worse, on the same test samples?"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator

from headstart.figures import figure
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.groups import count_groups, of_groups
from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.significance import mcnemar_p
from headstart.tracking.gate import Case, Gate, GateResult, Measured, result


def _judge(name: str, wanted: Literal["better", "not_worse"], case: Case) -> Iterator[GateResult]:
    if wanted == "better":
        yield result(name, ">", 0.0, lambda: _lower_bound(case))
    else:
        yield result(name, ">=", -case.policy.margin, lambda: _lower_bound(case))


def _lower_bound(case: Case) -> Measured:
    """The lower bound of the bootstrap interval of the difference, in the metric that the challenger was chosen by."""
    pair, champion = case.matched(with_reason=True)
    metric = case.evidence.metric
    both = (pair.labels, pair.ours, pair.theirs)
    gain = paired_bootstrap_gain(
        metric, *both, len(pair.classes), confidence=case.policy.confidence, groups=pair.groups
    )
    by = "better by " if METRICS[metric].lower_is_better else ""
    text = (
        f"{metric_title(metric)} {by}{figure(gain.value, signed=True)} "
        f"[{figure(gain.low, signed=True)}, {figure(gain.high, signed=True)}] against version {champion} on "
        f"{len(pair.ids):,} items{of_groups(count_groups(pair.groups))}"
    )
    if pair.left_out:
        text += f", {pair.left_out:,} left out as one of the two was trained on them"
    if metric == "accuracy":
        text += f"; McNemar p = {mcnemar_p(*both, pair.groups):.2g}"
    return gain.low, text + case.look


GATE = Gate(
    # `none` is a word in YAML, and null what people write for it.
    kind=Annotated[
        Literal["better", "not_worse", "none"], BeforeValidator(lambda value: "none" if value is None else value)
    ],
    default="better",
    note="the interval of the difference above 0; or not_worse (by at most margin), or none",
    judge=_judge,
    compares=True,
    place=0,
)
