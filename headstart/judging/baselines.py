"""Baselines as contenders."""

from pathlib import Path
from typing import Any

from headstart.data.dataset import Dataset
from headstart.jobs.job import baseline_job, train
from headstart.judging.contenders import Contender
from headstart.judging.retraining import Seeds, retrain
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
    seeds: Seeds = 1,
) -> tuple[Contender, dict[str, Any]]:
    """Train the baseline `name` and keep it in `directory`; also return the settings that it came to.

    `like` is the source. A network is trained `seeds` times (`retrain`).
    """
    job = baseline_job(name, dataset.path, like, training)
    trained = train(job, context)
    path = trained.save(directory / name, dataset)
    if BASELINES[name].is_network:
        retrain(trained, job, context, seeds, path, dataset)
    return Contender(name, "baseline", path, trained.validation, trained.seconds, run_id), trained.params
