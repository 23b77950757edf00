"""A point estimate with its confidence interval."""

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    """A point estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """Value, low and high, as JSON holds them."""
        return [self.value, self.low, self.high]


def normal_quantile(confidence: float) -> float:
    """The z that a standard normal variable stays within on both sides with probability `confidence`: 1.96 for .95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
