"""Baselines as contenders."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.data.dataset import Dataset
from headstart.jobs.job import baseline_job, train
from headstart.judging.contenders import RETRAINED, Contender
from headstart.models.bundle import ModelBundle
from headstart.strategies.baseline import BASELINES
from headstart.training.context import RunContext
from headstart.training.section import Training


def fit_baseline(
    name: str,
    dataset: Dataset,
    directory: Path,
    *,
    like: ModelBundle,
    training: Training,
    context: RunContext,
    run_id: str,
    seeds: int = 1,
) -> tuple[Contender, dict[str, Any]]:
    """Train the baseline `name` and keep it in `directory`; also return the settings that it came to.

    `like` is the source. A network is trained `seeds` times, with the context's seed and those after it; of all but the
    first, the test predictions are kept.
    """
    job = baseline_job(name, dataset.path, like, training)
    trained = train(job, context)
    path = trained.save(directory / name, dataset)
    for number in range(1, seeds if BASELINES[name].is_network else 1):
        again = train(job, replace(context, seed=context.seed + number, on_epoch=None))
        again.save_predictions(directory / RETRAINED / f"{number}.parquet", dataset)
    return Contender(name, "baseline", path, trained.validation, trained.seconds, run_id), trained.params
