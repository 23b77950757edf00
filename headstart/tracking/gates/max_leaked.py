"""How many of its test samples was it, or a source that it descends from, trained on?"""

from typing import Annotated

from pydantic import Field

from headstart.tracking.gate import Case, Gate, GateResult, Measured, result


def _judge(name: str, limit: int, case: Case) -> list[GateResult]:
    return [result(name, "<=", float(limit), lambda: _leaked(case, limit))]


def _leaked(case: Case, limit: int) -> Measured:
    ids = case.evidence.predictions.ids.tolist()
    value = sum(each in case.challenger.learned_from for each in ids)
    if case.challenger.unknown and value <= limit:
        raise case.unknown_training_data(f"at least {value:,} of its {len(ids):,} test items")
    return float(value), f"of its {len(ids):,} test items it or a source of it was trained on"


GATE = Gate(
    kind=Annotated[int, Field(ge=0)] | None,
    default=0,
    note="test samples that the model or one of its sources was trained on",
    judge=_judge,
    place=60,
)
