"""One trial of a search: a configuration is trained and judged on held-out labels, and nothing is refitted on all."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headstart.data.dataset import Dataset
from headstart.jobs.job import train, transfer_job
from headstart.judging.retraining import Seeds, planned_trainings
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.predictions import Predictions
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.held_out import judging_folds
from headstart.training.plan import make_plan
from headstart.training.progress import Progress
from headstart.training.section import Training

State = Literal["complete", "pruned", "failed"]
OnQuarter = Callable[[int, float], None]
"""Called with 1, 2 or 3 when so many quarters of the epochs are done, and the lowest held-out loss so far."""


@dataclass(frozen=True)
class Goal:
    """What all trials of a search are for: the target's data, the training's section, how contenders are judged."""

    dataset: Dataset
    training: Training
    metric: str
    seed: int
    confidence: float = 0.95
    seeds: Seeds = "auto"

    @property
    def epochs(self) -> int:
        """The epochs that the rule for the size of the data gives a fine-tuning, or that the recipe asks for."""
        return make_plan(self.training, self.dataset.split("train").labels, pretrained=True).epochs

    def judged(self) -> frozenset[str]:
        """The ids of the held-out samples that every trial is judged on."""
        parts = (self.dataset, *judging_folds(self.dataset))
        return frozenset(name for part in parts for name in part.split("val").ids.tolist())


@dataclass(frozen=True)
class Tried:
    """A trial that ended. `loss` is the mean log loss of its held-out predictions, by which trials are compared;
    `value` the metric there with its interval. None is what a trial that did not complete lacks."""

    number: int
    source: str
    """the reference of the source, without its pin"""
    strategy: dict[str, Any]
    """the settings, as a recipe writes them"""
    state: State
    seconds: float
    loss: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    final_seconds: float = 0.0
    """what training it anew in the final run takes, by the time that its own training took"""
    reason: str | None = None
    """why it did not complete"""

    @property
    def name(self) -> str:
        """The name of its strategy."""
        return str(self.strategy["name"])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, **asdict(self)}


def complete(tried: Iterable[Tried]) -> list[Tried]:
    """The trials that completed, the lowest loss first."""
    return sorted((each for each in tried if each.loss is not None), key=lambda each: each.loss or 0.0)


def settings(strategy: Strategy) -> dict[str, Any]:
    """A strategy as a recipe writes it: what it leaves open is left out."""
    return strategy.model_dump(mode="json", exclude_none=True)


def attempt(
    strategy: Strategy,
    source: Path,
    goal: Goal,
    *,
    reference: str,
    digest: str,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    on_quarter: OnQuarter | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Predictions]:
    """Train a configuration; return fields of `Tried` and the calibrated predictions for the held-out labels that all
    trials are judged on.

    The test split is not read. Where the state keeps checkpoints, the same training in a run is not done again.

    Raises:
        InputError: the source cannot be transferred so.
        HeadstartError: the loss is no longer a finite number.
    """
    job = transfer_job(source, goal.dataset.path, strategy, training=goal.training, reference=reference, digest=digest)
    epochs = getattr(strategy, "epochs", None) or goal.epochs
    told = _Quarters(epochs, on_quarter, on_epoch)
    # What does not train learns from all labels at once, and is judged by cross-validation over them.
    context = RunContext(goal.seed, goal.metric, on_epoch=told, progress=progress, refit=not strategy.trains)
    trained = train(job, context)
    assert trained.held_out is not None  # noqa: S101 (the search asks for held-out labels before it begins)
    chosen = goal.judged()
    held_out = trained.held_out.at(np.array([name in chosen for name in trained.held_out.ids.tolist()]))
    one = trained.seconds / (1 + len(list(judging_folds(goal.dataset)))) if trained.history else 0.0
    again = planned_trainings(trained, goal.dataset, goal.seeds, "transfer") - 1 if trained.history else 0
    found = bootstrap_interval(
        goal.metric,
        held_out.labels,
        held_out.predicted,
        len(held_out.classes),
        confidence=goal.confidence,
        seed=goal.seed,
        groups=held_out.groups,
    )
    return {
        "loss": float(held_out.losses.mean()),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "seconds": trained.seconds,
        # The checkpoints of the trial's own trainings are there; each other seed chooses and learns from all labels.
        "final_seconds": one * (1 + 2 * again),
    }, held_out


class _Quarters:
    """Tells the lowest validation loss after each quarter of the epochs but the last."""

    def __init__(
        self, epochs: int, on_quarter: OnQuarter | None, on_epoch: Callable[[int, dict[str, float]], None] | None
    ) -> None:
        self._epochs, self._on_quarter, self._on_epoch = epochs, on_quarter, on_epoch
        self._least, self._told = math.inf, 0

    def __call__(self, epoch: int, figures: dict[str, float]) -> None:
        if self._on_epoch:
            self._on_epoch(epoch, figures)
        self._least = min(self._least, figures.get("val/loss", math.inf))
        quarter = min(3, 4 * epoch // self._epochs)
        if self._on_quarter and quarter > self._told and math.isfinite(self._least):
            self._told = quarter
            self._on_quarter(quarter, self._least)
