"""Does any class, or label of several, lose recall against the champion?"""

import numpy as np

from headstart.metrics.counts import recalls
from headstart.metrics.moments import Moments
from headstart.metrics.tally import is_of_numbers, tally
from headstart.sections import Share
from headstart.tracking.gate import Case, Gate, Measured, NotAsked, at_most


def _largest_drop(case: Case) -> Measured:
    pair, _ = case.matched()
    if is_of_numbers(pair.labels):
        raise NotAsked("numbers have no classes")
    counts, before = (tally(pair.labels, each, len(pair.classes)) for each in (pair.ours, pair.theirs))
    assert not isinstance(counts, Moments)  # noqa: S101 - those are of numbers
    assert not isinstance(before, Moments)  # noqa: S101
    drops = np.where(counts.labelled > 0, recalls(before) - recalls(counts), -np.inf)
    worst = int(drops.argmax())
    if drops[worst] <= 0:
        return 0.0, "no class lost recall"
    change = f"from {recalls(before)[worst]:.3f} to {recalls(counts)[worst]:.3f}"
    return float(drops[worst]), f"recall of {pair.classes[worst]!r} {change}"


GATE = Gate(
    kind=Share | None,
    default=0.1,
    note="drop of any class's recall against the champion",
    judge=at_most(_largest_drop),
    compares=True,
    place=30,
)
