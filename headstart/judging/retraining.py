"""Trainings with other seeds: how far a contender's metric depends on the seed, which test items cannot tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.data.dataset import Dataset
from headstart.jobs.job import Job, train
from headstart.judging.contenders import SCRATCH
from headstart.metrics.predictions import read_predictions
from headstart.training.context import RunContext
from headstart.training.flops import epoch_flops
from headstart.training.trained import Trained

Seeds = int | Literal["auto"]

# In the directory of a model's bundle, outside of its sums.
_FOLDER = "retrained"
# Trainings that `auto` makes where one of them takes at most so many operations. A recipe has several strategies, which
# may borrow the spread of scratch, and one scratch.
_AFFORDED, _AFFORDABLE = 5, {"baseline": 1e12, "transfer": 1e11}


def retrain(trained: Trained, job: Job, context: RunContext, seeds: Seeds, path: Path, dataset: Dataset) -> None:
    """Do the training that `trained` came of again, `seeds` times in all, with the context's seed and those after it;
    of all but the first, keep the test predictions with the bundle at `path`.

    What was not trained in steps does not depend on the seed, and is not done again. `auto` is five times where one
    training takes seconds, by its operations, which do not depend on the machine: at most 10¹² of scratch, 10¹¹ of a
    strategy.
    """
    if not trained.history:
        return
    for number in range(1, planned_trainings(trained, dataset, seeds, job.kind)):
        again = replace(context, seed=context.seed + number, on_epoch=None, cross_validate=False)
        train(job, again).save_predictions(path / _FOLDER / f"{number}.parquet", dataset)


def read_retrained(path: Path) -> list[np.ndarray]:
    """The classes int (N,) that the trainings with other seeds give the test samples, for the bundle at `path`."""
    return [read_predictions(place).predicted for place in sorted(path.glob(f"{_FOLDER}/*.parquet"))]


def planned_trainings(trained: Trained, dataset: Dataset, seeds: Seeds, kind: str) -> int:
    """How many trainings with other seeds there are in all of what was `trained` in steps by a job of this kind."""
    if seeds != "auto":
        return seeds
    affordable = len(trained.history) * epoch_flops(trained.bundle, dataset) <= _AFFORDABLE[kind]
    return _AFFORDED if affordable else 1


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

    `ours` are a contender, or the members of a combination, whose variance is taken for the largest of theirs. The
    training that is delivered has the variance of one; the gain is over the mean of the M trainings of `theirs`, which
    has 1/M. A contender without a spread was not trained in steps; one that was trained once is taken to vary as
    scratch does. Degrees of freedom: Satterthwaite 1946.
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
