"""Does it predict one sample fast enough on this machine?"""

import statistics
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from headstart.errors import HeadstartError
from headstart.judging.serving_cost import prediction_seconds
from headstart.tracking.gate import Case, Gate, Measured, at_most

_WARM_UP, _REPEATS = 5, 50


def _latency(case: Case) -> Measured:
    value, text = _milliseconds(case.challenger.bundle), "ms for one sample on this machine"
    if case.champion is not None:
        # The champion's files may be what is to be replaced.
        with suppress(HeadstartError):
            text += f"; version {case.champion.version} takes {_milliseconds(case.champion.bundle):.1f}"
    return value, text


def _milliseconds(path: Path) -> float:
    """Median time of a prediction for one sample."""
    from headstart.models.bundle import ModelBundle

    seconds = prediction_seconds(ModelBundle.load(path), warm_up=_WARM_UP, repeats=_REPEATS)
    return 1000 * statistics.median(seconds)


GATE = Gate(
    Annotated[float, Field(gt=0)] | None,
    None,
    "one sample, on the machine that promotes",
    at_most(_latency),
    place=51,
)
