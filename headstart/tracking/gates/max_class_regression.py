"""Does any class lose recall against the champion?"""

import numpy as np

from headstart.metrics.counts import count, recalls
from headstart.metrics.tally import is_of_classes
from headstart.sections import Share
from headstart.tracking.gate import Case, Gate, Measured, NotAsked, at_most


def _largest_drop(case: Case) -> Measured:
    pair, _ = case.matched()
    if not is_of_classes(pair.labels):
        raise NotAsked("numbers have no classes")
    counts, before = (count(pair.labels, each, len(pair.classes)) for each in (pair.ours, pair.theirs))
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
