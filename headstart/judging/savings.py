"""What a transfer saves: its cost against that of scratch to the same validation metric, and when pretraining pays.

The costs are those that the record has: the validation metric of each epoch, and the seconds of the whole contender,
once more on all labels included, of which each epoch has an equal share. Where both are not known, nothing is said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.data.dataset import Dataset
from headstart.judging.assessment import Assessment
from headstart.judging.contenders import SCRATCH, Contender
from headstart.models.bundle import ModelBundle


@dataclass(frozen=True)
class Cost:
    """The cost of a training up to a validation metric."""

    seconds: float
    epochs: int
    """0 where nothing is trained in epochs"""
    flops: float | None = None
    """of the gradient steps; None where some stages are frozen for some of them"""


@dataclass(frozen=True)
class Saving:
    """The costs of a strategy and of scratch to the same validation metric."""

    level: float
    """the metric that both reach on the validation split, the lower of the two that they kept"""
    transfer: Cost
    scratch: Cost
    pretraining: float | None
    """the seconds of the source's pretraining; None where they are not known"""

    @property
    def seconds(self) -> float:
        """The seconds that a target saves; negative where scratch is faster."""
        return self.scratch.seconds - self.transfer.seconds

    @property
    def targets(self) -> int | None:
        """The number of targets after which the pretraining has paid for itself; None where it never does, or where its
        seconds are not known."""
        if self.pretraining is None or self.seconds <= 0:
            return None
        return max(1, math.ceil(self.pretraining / self.seconds))

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures under their names in the record."""
        return {
            "saving/seconds": self.seconds,
            "saving/flops": _difference(self.scratch.flops, self.transfer.flops),
            "saving/pretraining_seconds": self.pretraining,
            "saving/targets": self.targets,
        }


def savings(
    assessment: Assessment,
    dataset: Dataset,
    strategies: Sequence[Mapping[str, Any]],
    *,
    pretraining: float | None = None,
) -> dict[str, Saving]:
    """What each transfer strategy saves, by name; without those of which it cannot be known, and without any where
    scratch was not trained to its end.

    `strategies` are the recipe's, which say whether all stages train from the first step on; `pretraining` is the
    seconds that the source took.
    """
    from headstart.strategies.section import FullTransfer, Strategy

    scratch = next((each for each in assessment.contenders if each.strategy == SCRATCH), None)
    against = next((each for each in assessment.leaderboard.comparisons if each.baseline == SCRATCH), None)
    if scratch is None or not _scores(assessment, scratch) or (against and against.learned is not None):
        return {}
    sections = [Strategy.of(dict(each), at="strategies") for each in strategies]
    whole = {each.name for each in sections if isinstance(each, FullTransfer) and each.schedule != "gradual"}
    from headstart.training.flops import epoch_flops

    of_an_epoch = epoch_flops(ModelBundle.load(scratch.path), dataset)
    found = {}
    for each in assessment.contenders:
        if each.kind != "transfer":
            continue
        level = min(scratch.validation, each.validation)
        if not math.isfinite(level):
            continue
        ours = _cost(assessment, each, level, of_an_epoch if each.strategy in whole else None)
        theirs = _cost(assessment, scratch, level, of_an_epoch)
        if ours and theirs:
            found[each.strategy] = Saving(level, ours, theirs, pretraining)
    return found


def _cost(assessment: Assessment, contender: Contender, level: float, epoch_flops: float | None) -> Cost | None:
    """The cost up to the first epoch that reaches `level`; None where none does, and for a strategy that was trained
    elsewhere or not at all."""
    if not contender.seconds > 0:
        return None
    if contender.strategy not in assessment.history:
        return Cost(contender.seconds, 0)
    scores = _scores(assessment, contender)
    epoch = next((number for number, score in enumerate(scores, start=1) if score >= level), None)
    if epoch is None:
        return None
    return Cost(contender.seconds * epoch / len(scores), epoch, epoch_flops and epoch_flops * epoch)


def _scores(assessment: Assessment, contender: Contender) -> list[float]:
    """The validation metric by epoch; empty where it is not known for all."""
    rows = assessment.history.get(contender.strategy, ())
    scores = [row.get(f"val/{assessment.leaderboard.metric}") for row in rows]
    return [score for score in scores if score is not None] if None not in scores else []


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
