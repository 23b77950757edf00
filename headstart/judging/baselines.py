"""Baselines as contenders."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from headstart.data.dataset import Dataset
from headstart.jobs.job import baseline_job, train
from headstart.judging.contenders import RETRAINED, Contender
from headstart.models.bundle import ModelBundle
from headstart.strategies.baseline import BASELINES
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.trained import Trained

# Trainings that `auto` makes where one of them takes at most so many operations: seconds on a core.
_AFFORDED, _AFFORDABLE = 5, 1e12


def fit_baseline(
    name: str,
    dataset: Dataset,
    directory: Path,
    *,
    like: ModelBundle,
    training: Training,
    context: RunContext,
    run_id: str,
    seeds: int | Literal["auto"] = 1,
) -> tuple[Contender, dict[str, Any]]:
    """Train the baseline `name` and keep it in `directory`; also return the settings that it came to.

    `like` is the source. A network is trained `seeds` times, with the context's seed and those after it; of all but the
    first, the test predictions are kept. `auto` is five times where one training takes at most 10¹² operations, which
    does not depend on the machine.
    """
    job = baseline_job(name, dataset.path, like, training)
    trained = train(job, context)
    path = trained.save(directory / name, dataset)
    for number in range(1, _trainings(trained, dataset, seeds) if BASELINES[name].is_network else 1):
        again = train(job, replace(context, seed=context.seed + number, on_epoch=None, cross_validate=False))
        again.save_predictions(directory / RETRAINED / f"{number}.parquet", dataset)
    return Contender(name, "baseline", path, trained.validation, trained.seconds, run_id), trained.params


def _trainings(trained: Trained, dataset: Dataset, seeds: int | Literal["auto"]) -> int:
    if seeds != "auto":
        return seeds
    from headstart.training.flops import epoch_flops

    return _AFFORDED if len(trained.history) * epoch_flops(trained.bundle, dataset) <= _AFFORDABLE else 1
