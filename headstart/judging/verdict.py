"""The verdict on a transfer: whether the whole interval of its gain lies on one side."""

from dataclasses import dataclass
from typing import Literal

from headstart.errors import InputError
from headstart.metrics.intervals import Interval

Verdict = Literal["helped", "no evidence", "hurt"]

_RELATIONS = {
    "helped": "it beats",
    "no evidence": "it is not clearly better than",
    "hurt": "it is worse than",
}


def verdict(gain: Interval, min_gain: float = 0.0) -> Verdict:
    """ "helped" if the whole interval lies above `min_gain` ≥ 0, "hurt" if it lies below 0, else "no evidence"."""
    if not min_gain >= 0:
        raise InputError(f"evaluation.min_gain is {min_gain}; the least gain that counts is 0 or more.")
    if gain.low > min_gain:
        return "helped"
    return "hurt" if gain.high < 0 else "no evidence"


@dataclass(frozen=True)
class Comparison:
    """The chosen strategy against one baseline, on the same test items."""

    baseline: str
    gain: Interval
    verdict: Verdict
    p: float
    """of McNemar's test that both are equally accurate, Holm-corrected over the baselines"""

    @property
    def bounds(self) -> str:
        """The gain's interval as text."""
        return f"[{self.gain.low:+.3f}, {self.gain.high:+.3f}]"

    @property
    def clause(self) -> str:
        """The comparison in words, for the end of a sentence."""
        return f"{_RELATIONS[self.verdict]} the baseline {self.baseline} ({self.gain.value:+.3f} {self.bounds})"
