"""How far a contender's metric varies between trainings with other seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.judging.contenders import SCRATCH


@dataclass(frozen=True)
class Spread:
    """The spread of a contender's metric over trainings with other seeds."""

    shown: float
    """of the first training, which is the one that is shown"""
    mean: float
    variance: float
    """of one training"""
    trainings: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of the metric's `values`, one for each training; nothing is known of one alone."""
        variance = float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(values[0], float(np.mean(values)), variance, len(values))

    @property
    def deviation(self) -> float | None:
        """The standard deviation; None for one training."""
        return math.sqrt(self.variance) if self.trainings > 1 else None


def noise_of(ours: Sequence[str], theirs: str, spreads: Mapping[str, Spread]) -> tuple[float, float]:
    """The variance of a gain by the seeds of the trainings of both sides, and the degrees of freedom of its estimate.

    `ours` are a contender, or the members of a combination of which none was formed with other seeds, whose variance
    is taken for the largest of theirs. The training that is delivered has the variance of one; the gain is over the
    mean of the M trainings of `theirs`, which has 1/M. A contender without a spread was not trained in steps; one that
    was trained once is taken to vary as scratch does. Degrees of freedom: Satterthwaite 1946.
    """
    lenders = [name if spreads[name].trainings > 1 else SCRATCH for name in ours if name in spreads]
    lender = max((name for name in lenders if name in spreads), key=lambda name: spreads[name].variance, default=None)
    shares = {lender: 1.0} if lender else {}
    if theirs in spreads:
        shares[theirs] = shares.get(theirs, 0.0) + 1 / spreads[theirs].trainings
    variances = {name: share * spreads[name].variance for name, share in shares.items()}
    total = sum(variances.values())
    if not total:
        return 0.0, math.inf
    return total, total**2 / sum(each**2 / (spreads[name].trainings - 1) for name, each in variances.items() if each)
