"""Does a target gain enough over the best baseline?"""

from typing import Annotated

from pydantic import Field

from headstart.metrics.metric import metric_title
from headstart.tracking.gate import Case, Gate, Measured, NotAsked, Unanswered, at_least

GAIN = Annotated[float, Field(ge=-1, le=1)] | None


def recorded_gain(case: Case, ending: str = "") -> float:
    """The gain that the evidence holds under gain_over_best/<metric><ending>, in older evidence under gain/…"""
    if case.challenger.role == "source":
        raise NotAsked("a source has no gain")
    if case.challenger.role == "baseline":
        raise NotAsked("a baseline that was delivered has no gain over itself")
    figures, name = case.evidence.figures, f"{case.evidence.metric}{ending}"
    value = figures.get(f"gain_over_best/{name}", figures.get(f"gain/{name}"))
    if value is None:
        raise Unanswered("no gain is recorded; run with a baseline")
    return value


def _gain(case: Case) -> Measured:
    word = f"; {case.evidence.verdict}" if case.evidence.verdict else ""
    return recorded_gain(case), f"gain over the best baseline in {metric_title(case.evidence.metric)}{word}{case.look}"


GATE = Gate(GAIN, 0.0, "over the best baseline; null where there is none", at_least(_gain), place=20)
