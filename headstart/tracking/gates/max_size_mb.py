"""Is its bundle small enough?"""

from typing import Annotated

from pydantic import Field

from headstart.tracking.gate import Case, Gate, Measured, at_most


def _megabytes(case: Case) -> Measured:
    return sum(file.stat().st_size for file in case.challenger.bundle.iterdir()) / 1e6, "MB of the bundle"


GATE = Gate(Annotated[float, Field(gt=0)] | None, None, "10⁶ bytes of the bundle", at_most(_megabytes), place=50)
