"""Does a target gain enough over training from scratch?"""

from typing import Annotated

from pydantic import Field

from headstart.metrics.metric import metric_title
from headstart.tracking.gate import Case, Gate, Measured, NotAsked, Unanswered, at_least

GAIN = Annotated[float, Field(ge=-1, le=1)] | None


def recorded_gain(case: Case, ending: str = "") -> float:
    """The gain that the evidence holds under gain/<metric><ending>."""
    if case.challenger.role == "source":
        raise NotAsked("a source has no gain")
    value = case.evidence.figures.get(f"gain/{case.evidence.metric}{ending}")
    if value is None:
        raise Unanswered("no gain is recorded; run with the baseline scratch")
    return value


def _gain(case: Case) -> Measured:
    return recorded_gain(case), f"gain over scratch in {metric_title(case.evidence.metric)}"


GATE = Gate(GAIN, 0.0, "over scratch; null where there is no such baseline", at_least(_gain), place=20)
