"""Baselines: what a transfer has to beat, trained on the target alone.

`scratch` is the source's architecture from random weights with the strategies' budget; `classical` is the best of
several scikit-learn models on pixels and gradients, tuned by cross-validation.
"""

from pathlib import Path
from typing import Any

from headstart.data.dataset import Dataset
from headstart.jobs.job import scratch_job, train
from headstart.judging.contenders import RETRAINED, Contender
from headstart.metrics.predictions import write_predictions
from headstart.models.bundle import ModelBundle
from headstart.strategies.classical import fit_classical
from headstart.training.engine import OnEpoch
from headstart.training.progress import Progress
from headstart.training.section import Training


def fit_baseline(
    name: str,
    dataset: Dataset,
    directory: Path,
    *,
    like: ModelBundle,
    training: Training,
    metric: str,
    seed: int,
    run_id: str,
    seeds: int = 1,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> tuple[Contender, dict[str, Any]]:
    """Trains the baseline `name` and keeps it in `directory`; also returns the settings that it came to.

    `like` is the source: scratch takes over its architecture and input, and nothing that it learned.
    It is trained `seeds` times, with `seed` and those after it; of all but the first, the test predictions are kept.
    """
    if name == "scratch":
        job = scratch_job(dataset.path, like, training=training, metric=metric, seed=seed)
        trained = train(job, on_epoch=on_epoch, progress=progress)
        path = directory / name
        trained.bundle.save(path)
        test = dataset.split("test")
        for number in range(1, seeds):
            job = scratch_job(dataset.path, like, training=training, metric=metric, seed=seed + number)
            again = train(job, progress=progress).bundle.predict_probabilities(test.samples)
            kept = directory / RETRAINED / f"{number}.parquet"
            kept.parent.mkdir(exist_ok=True)
            write_predictions(kept, test.ids, test.labels, again, dataset.classes)
        return Contender(name, "baseline", path, trained.validation, trained.seconds, run_id), trained.params
    model = fit_classical(dataset, metric=metric, seed=seed)
    test = dataset.split("test")
    path = directory / f"{name}.parquet"
    directory.mkdir(parents=True, exist_ok=True)
    write_predictions(path, test.ids, test.labels, model.probabilities, dataset.classes)
    return Contender(name, "baseline", path, model.validation, model.seconds, run_id), dict(model.params)
