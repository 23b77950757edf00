"""Confirmation of a ranking: the leading candidates are fine-tuned for a quarter of the epochs and compared."""

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from headstart.data.dataset import Dataset
from headstart.jobs.job import train, transfer_job
from headstart.judging.ranking import ONE_ERROR, Lead, Scored, timed
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.task import metric_for
from headstart.models.bundle import ModelBundle
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.progress import Progress
from headstart.training.section import Training

_SHARE_OF_EPOCHS = 0.25
# Samples whose forward pass is timed, and that as a share of a training step: backward is twice forward.
_TIMED = 64
_STEP = 3


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
    costs, metric = dict(scored.ranked.costs), metric_for(metric, dataset.task)
    val = dataset.split("val")
    short = _short(training, dataset)
    # Not `auto`, whose comparison of starts holds for whole trainings.
    strategy = Strategy.of({"name": "confirm", "transfer": "full", "schedule": "lp_ft"}, at="strategies")
    with timed(costs, "confirm"), tempfile.TemporaryDirectory(prefix="headstart-") as place:
        path = Path(place) / "source"
        digest = source.save(path)
        job = transfer_job(path, dataset.path, strategy, training=short, reference=scored.ranked.source, digest=digest)
        trained = train(job, RunContext(seed, metric, progress=progress, refit=False, cross_validate=False))
        predictions = trained.bundle.kind.predicted(trained.bundle.predict_logits(val.samples))
    classes = len(dataset.classes)
    found = bootstrap_interval(
        metric, val.labels, predictions, classes, confidence=ONE_ERROR, seed=seed, groups=val.groups
    )
    error = (found.high - found.low) / 2
    ranked = replace(scored.ranked, costs=costs, confirmed=found.value, confirmed_error=error)
    return replace(scored, ranked=ranked, predictions=predictions)


def _short(training: Training, dataset: Dataset) -> Training:
    whole = make_plan(training, dataset.split("train").labels, pretrained=True).epochs
    return training.model_copy(update={"epochs": math.ceil(_SHARE_OF_EPOCHS * whole)})


def estimated_seconds(source: ModelBundle, dataset: Dataset) -> float:
    """How long the short fine-tuning of a candidate would take on this machine, by the time that the forward pass of a
    few training samples takes; what training needs beside its steps is left out."""
    train, epochs = dataset.split("train"), _short(Training(), dataset).epochs or 1
    samples = train.samples[:_TIMED]
    source.predict_features(samples)
    start = time.perf_counter()
    source.predict_features(samples)
    passes = _STEP * epochs * len(train.labels) + (1 + epochs) * len(dataset.split("val").labels)
    return (time.perf_counter() - start) / len(samples) * passes


def tuned_lead(one: Scored, other: Scored, dataset: Dataset, metric: str, seed: int) -> Lead:
    """How much the fine-tuning of `one` is better on the validation samples."""
    assert one.predictions is not None and other.predictions is not None  # noqa: S101, PT018 (both are fine-tuned)
    val, metric = dataset.split("val"), metric_for(metric, dataset.task)
    gain = paired_bootstrap_gain(
        metric,
        val.labels,
        one.predictions,
        other.predictions,
        len(dataset.classes),
        confidence=ONE_ERROR,
        seed=seed,
        groups=val.groups,
    )
    return Lead.of(gain)
