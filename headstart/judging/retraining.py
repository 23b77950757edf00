"""Trainings with other seeds, which tell what test items cannot: how far a metric depends on the seed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from headstart.data.dataset import Dataset
from headstart.jobs.job import Job, train
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.metrics.task import MULTI_LABEL
from headstart.training.context import RunContext
from headstart.training.flops import epoch_flops
from headstart.training.trained import Trained, predictions_of

Seeds = int | Literal["auto"]

# In the directory of a model's bundle, outside of its sums.
_FOLDER = "retrained"
# Trainings that `auto` makes where one of them takes at most so many operations. A recipe has several strategies, which
# may borrow the spread of scratch, and one scratch.
_AFFORDED, _AFFORDABLE = 5, {"baseline": 1e12, "transfer": 1e11}


def retrain(trained: Trained, job: Job, context: RunContext, seeds: Seeds, path: Path, dataset: Dataset) -> None:
    """Do the training that `trained` came of again, `seeds` times in all, with the context's seed and those after it;
    of all but the first, keep the test predictions with the bundle at `path`.

    What was not trained in steps does not depend on the seed, and is not done again; nor is what keeps its start. That
    was decided by labels that several trainings held out, and holds for the others: a single one has too few to tell,
    and the spread would be that of start and end. `auto` is five times where one training takes seconds, by its
    operations, which do not depend on the machine: at most 10¹² of scratch, 10¹¹ of a strategy. Held-out samples judge
    and calibrate the first training alone; the others learn from all labels at once where nothing else is chosen.
    """
    if not trained.history:
        return
    if job.kind == "transfer":
        job = replace(job, arguments={**job.arguments, "start_stays": trained.keeps_start})
    # The labels that an item is given depend on thresholds, which held-out samples choose.
    judge = dataset.task == MULTI_LABEL
    start = predictions_of(trained.bundle, dataset.split("test")) if trained.keeps_start else None
    for number in range(1, planned_trainings(trained, dataset, seeds, job.kind)):
        place = path / _FOLDER / f"{number}.parquet"
        if start is not None:
            start.save(place)
        else:
            again = replace(context, seed=context.seed + number, on_epoch=None, cross_validate=False, judge=judge)
            found = train(job, again)
            if not judge:
                found.bundle.calibration = trained.bundle.calibration
            found.save_predictions(place, dataset)


def read_retrained(path: Path) -> Iterator[Predictions]:
    """What the trainings with other seeds predict for the test samples, for the bundle at `path`, one after the other:
    of many samples and classes they are large."""
    return map(read_predictions, sorted(path.glob(f"{_FOLDER}/*.parquet")))


def planned_trainings(trained: Trained, dataset: Dataset, seeds: Seeds, kind: str) -> int:
    """How many trainings with other seeds there are in all of what was `trained` in steps by a job of this kind."""
    if seeds != "auto":
        return seeds
    affordable = len(trained.history) * epoch_flops(trained.bundle, dataset) <= _AFFORDABLE[kind]
    return _AFFORDED if affordable else 1
