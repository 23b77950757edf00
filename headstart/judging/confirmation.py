"""Confirmation of a ranking: the leading candidates are fine-tuned for a quarter of the epochs and compared."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

from headstart.data.dataset import Dataset
from headstart.jobs.job import train, transfer_job
from headstart.judging.ranking import Scored, in_errors, timed
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.models.bundle import ModelBundle
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.progress import Progress
from headstart.training.section import Training

_SHARE_OF_EPOCHS = 0.25
# The confidence of an interval of one standard error to either side.
_ONE_ERROR = 0.6827


def confirm(
    scored: Scored,
    source: ModelBundle,
    dataset: Dataset,
    training: Training,
    metric: str,
    seed: int,
    progress: Progress | None,
) -> Scored:
    """The candidate with its metric on the validation split after a short fine-tuning, which is a job as any other."""
    costs = dict(scored.ranked.costs)
    val = dataset.split("val")
    whole = make_plan(training, dataset.split("train").labels, pretrained=True).epochs
    short = training.model_copy(update={"epochs": math.ceil(_SHARE_OF_EPOCHS * whole)})
    # Not `auto`, whose comparison of starts holds for whole trainings.
    strategy = Strategy.of({"name": "confirm", "transfer": "full", "schedule": "lp_ft"}, at="strategies")
    with timed(costs, "confirm"), tempfile.TemporaryDirectory(prefix="headstart-") as place:
        path = Path(place) / "source"
        digest = source.save(path)
        job = transfer_job(path, dataset.path, strategy, training=short, reference=scored.ranked.source, digest=digest)
        trained = train(job, RunContext(seed, metric, progress=progress, refit=False))
        predictions = trained.bundle.predict_logits(val.samples).argmax(axis=1)
    classes = len(dataset.classes)
    found = bootstrap_interval(
        metric, val.labels, predictions, classes, confidence=_ONE_ERROR, seed=seed, groups=val.groups
    )
    error = (found.high - found.low) / 2
    ranked = replace(scored.ranked, costs=costs, confirmed=found.value, confirmed_error=error)
    return replace(scored, ranked=ranked, predictions=predictions)


def tuned_lead(one: Scored, other: Scored, dataset: Dataset, metric: str, seed: int) -> float:
    """How many standard errors of the difference the fine-tuning of `one` is better on the validation samples."""
    assert one.predictions is not None and other.predictions is not None  # noqa: S101, PT018 (both are fine-tuned)
    val = dataset.split("val")
    gain = paired_bootstrap_gain(
        metric,
        val.labels,
        one.predictions,
        other.predictions,
        len(dataset.classes),
        confidence=_ONE_ERROR,
        seed=seed,
        groups=val.groups,
    )
    return in_errors(gain.value, (gain.high - gain.low) / 2)
