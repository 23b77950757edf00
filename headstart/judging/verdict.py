"""The verdict on a transfer: whether the whole intervals of its gains over all baselines lie on one side."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from headstart.errors import InputError
from headstart.figures import figure
from headstart.judging.contenders import GUESSES
from headstart.metrics.intervals import Interval

Verdict = Literal["helped", "no evidence", "hurt"]

_RELATIONS = {
    "helped": "it beats",
    "no evidence": "it is not clearly better than",
    "hurt": "it is worse than",
}


def overall_verdict(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict over several baselines: "helped" over every one of them, "hurt" by any of them, else "no evidence";
    None without a baseline."""
    found = set(verdicts)
    if "hurt" in found:
        return "hurt"
    return ("helped" if found == {"helped"} else "no evidence") if found else None


def verdict(gain: Interval, min_gain: float = 0.0, *, learned: bool = True) -> Verdict:
    """ "helped" if the whole interval lies above `min_gain` ≥ 0, "hurt" if it lies below 0, else "no evidence".

    A gain over a baseline that had not `learned` its own training samples is no evidence that the transfer helped.
    """
    if not min_gain >= 0:
        raise InputError(f"evaluation.min_gain is {min_gain}; the least gain that counts is 0 or more.")
    if gain.low > min_gain and learned:
        return "helped"
    return "hurt" if gain.high < 0 else "no evidence"


@dataclass(frozen=True)
class Comparison:
    """The chosen strategy against one baseline, on the same test items."""

    baseline: str
    gain: Interval
    verdict: Verdict
    p: float
    """of a paired test that both are equally good (`paired_p`), Holm-corrected over the baselines"""
    learned: float | None = None
    """of a baseline whose epochs ran out before it had learned its own training samples: its accuracy on them, or for
    numbers R²"""

    @property
    def bounds(self) -> str:
        """The gain's interval as text."""
        return f"[{figure(self.gain.low, signed=True)}, {figure(self.gain.high, signed=True)}]"

    @property
    def title(self) -> str:
        """The baseline as sentences name it."""
        return GUESSES.get(self.baseline, self.baseline)

    @property
    def clause(self) -> str:
        """The comparison in words, for the end of a sentence."""
        name = GUESSES.get(self.baseline, f"the baseline {self.baseline}")
        gain = f"({figure(self.gain.value, signed=True)} {self.bounds})"
        if self.learned is not None and self.verdict == "no evidence":
            return f"its gain over {name} {gain} {self.proves_nothing}"
        return f"{_RELATIONS[self.verdict]} {name} {gain}"

    @property
    def proves_nothing(self) -> str:
        """A predicate for a baseline that was not trained to its end."""
        learned = max(0.0, self.learned or 0.0)
        return (
            f"proves nothing, as {self.title} had learned only {learned:.0%} of its own training samples when its "
            "epochs ran out (raise training.epochs)"
        )
