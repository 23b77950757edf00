"""The evaluation of a source on the test split of its own data."""

import logging
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.labelled import LabelledDataset
from headstart.figures import figure
from headstart.judging.evidence import Evidence, digests, figures, seen
from headstart.judging.kept_predictions import outputs_on_test
from headstart.judging.learned import unlearned
from headstart.judging.monitoring import features_to_keep
from headstart.judging.report.source import render_source_report
from headstart.judging.section import Evaluation
from headstart.metrics import tally
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.groups import count_groups, group_numbers, of_groups
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.predictions import Predictions
from headstart.metrics.task import MULTI_LABEL, REGRESSION, TASKS, metric_for
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State

log = logging.getLogger(__name__)


def evaluate_source(bundle: ModelBundle, dataset: Dataset, *, experiment: str, address: str, seed: int = 0) -> Evidence:
    """The evidence for a source; `address` is where the data set lies for others, a path or an s3:// address.

    It is judged as a recipe is by default, since a source serves many targets, each with an evaluation of its own. A
    source without a head is judged by a linear head on its features, which is not kept. Data without labels gives no
    figures.
    """
    evaluation, test, state = Evaluation(), dataset.split("test"), State.from_environment()
    metrics: dict[str, Any] | None = None
    found: dict[str, float] = {}
    if dataset.classes:
        evaluation = evaluation.model_copy(update={"metric": metric_for(evaluation.metric, dataset.task)})
        outputs = outputs_on_test(bundle, dataset, state) if bundle.classes else _probe(bundle, dataset)
        predictions = Predictions(test.ids, test.labels, outputs, dataset.classes, test.groups, dataset.task)
        metrics = predictions.figures
        score = bootstrap_interval(
            evaluation.metric,
            test.labels,
            predictions.predicted,
            len(dataset.classes),
            confidence=evaluation.confidence,
            resamples=evaluation.resamples,
            seed=seed,
            groups=test.groups,
        )
        found = figures(metrics, evaluation.metric, score)
        subject = "The source" if bundle.classes else "A linear head on the source's features"
        bounds = f"[{figure(score.low)}, {figure(score.high)}]"
        reached = f"{figure(score.value)} {metric_title(evaluation.metric)} {bounds}"
        sentence = (
            f"{subject} reaches {reached} at {100 * evaluation.confidence:g}% confidence on "
            f"{len(test.labels):,} test items{of_groups(count_groups(test.groups))} of its own data."
        )
        if doubt := _beaten_by_a_guess(predictions, evaluation.metric, score) or _not_learned(bundle, dataset):
            sentence = f"{sentence} {doubt}"
            log.warning(sentence)
    else:
        count = len(test.ids)
        predictions = Predictions(test.ids, np.full(count, -1), np.empty((count, 0), dtype=np.float32), ())
        sentence = "The source's own data has no labels: what it is worth shows on a target."
    return Evidence(
        metric=evaluation.metric,
        figures=found,
        sentence=sentence,
        digests=digests(dataset),
        dataset=address,
        predictions=predictions,
        trained_on=seen(dataset),
        report=render_source_report(experiment, sentence, metrics, bundle, dataset),
        features=features_to_keep(bundle, dataset, state),
    )


def _beaten_by_a_guess(predictions: Predictions, metric: str, reached: Interval) -> str | None:
    """What to do about a source whose figure does not lie above that of a constant answer; None where it does."""
    kind, merit = predictions.kind, METRICS[metric].merit
    guess = tally.score(metric, predictions.labels, kind.guess(predictions.labels), len(predictions.classes))
    if min(merit(reached.low), merit(reached.high)) > merit(guess):
        return None
    return (
        f"The test's {kind.guess_title} has {figure(guess)}, so nothing shows that it has learned anything: let it "
        "train for longer (source.pretraining.epochs) or at another rate (source.pretraining.learning_rate)."
    )


def _not_learned(bundle: ModelBundle, dataset: Dataset) -> str | None:
    """What to do about a source whose epochs ran out before it had learned its training samples; None for others."""
    reached = unlearned(bundle, dataset) if bundle.classes else None
    if reached is None:
        return None
    return (
        f"Its epochs ran out when it had learned only {max(0.0, reached):.0%} of its own training samples, and what "
        "starts from it may lose to scratch: let it train for longer (source.pretraining.epochs)."
    )


def _probe(bundle: ModelBundle, dataset: Dataset) -> np.ndarray:
    """The outputs (N, M) for the test split by the best linear head on the bundle's features, calibrated."""
    from headstart.features.heads import best_head
    from headstart.features.label_heads import best_label_head
    from headstart.features.number_heads import best_number_head

    labelled, test = LabelledDataset(dataset).split("train"), dataset.split("test")
    kind, groups = TASKS[dataset.task], group_numbers(labelled.groups)
    if dataset.task == REGRESSION:
        head = best_number_head(bundle.predict_features(labelled.samples), labelled.labels, groups)
        calibration = kind.calibrated(head.logits, labelled.labels[head.held_out], labelled.groups[head.held_out])
        return kind.outputs(head.head.logits(bundle.predict_features(test.samples)), calibration)
    features, classes = bundle.predict_features(labelled.samples), len(dataset.classes)
    if dataset.task == MULTI_LABEL:
        fitted = best_label_head(features, labelled.labels, groups)
    else:
        fitted = best_head(features, labelled.labels, classes=classes, groups=groups)
    calibration = kind.calibrated(fitted.logits, labelled.labels[fitted.held_out], labelled.groups[fitted.held_out])
    return kind.outputs(fitted.head.logits(bundle.predict_features(test.samples)), calibration)
