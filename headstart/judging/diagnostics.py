"""Diagnostics of the chosen model: intervals of its figures, reasons for the verdict, reliability, robustness and
explanations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.subsets import spread_out
from headstart.features.extraction import vectors
from headstart.features.heads import cross_validated_hits
from headstart.judging.assessment import Assessment
from headstart.judging.contenders import SCRATCH
from headstart.judging.data_efficiency import Curve, count_trainings, curve_trainings, data_efficiency
from headstart.judging.domain_distance import source_distance
from headstart.judging.explanation import Explained, explained_samples, with_random_weights
from headstart.judging.headline import Findings, headline
from headstart.judging.kept_predictions import kept, kept_features_of
from headstart.judging.label_diagnostics import LabelFigures, diagnose_labels
from headstart.judging.learned import accuracy_at
from headstart.judging.number_diagnostics import NumberDiagnostics, diagnose_numbers, number_intervals
from headstart.judging.reasons import Fitted, Probe, Reason, reasons
from headstart.judging.reliability import Bin, Selective, reliability_bins, selective_prediction
from headstart.judging.robustness import Robustness, predict_corrupted, robustness
from headstart.judging.section import Evaluation
from headstart.metrics.bootstrap import metric_intervals, task_intervals
from headstart.metrics.groups import count_groups, group_numbers, groups_at, mean_interval
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import read_predictions
from headstart.metrics.tally import Resampling
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.metrics.wilson import ClassIntervals, class_intervals, share_interval
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.widening import for_samples
from headstart.storage.state import State
from headstart.training.engine import move_to_training_device, training_device
from headstart.training.flops import epoch_flops
from headstart.training.section import Training

# Training samples that the figures are computed from: more would tell them apart no better.
_SEEN = 1000
# Operations that take half a minute on a core, on whatever machine: what trainings for the curve may take together.
_AFFORDABLE = 1e12
# A probe needs some of each class.
_PROBED_PER_CLASS = 5


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """The findings; one that the recipe did not ask for is None."""

    intervals: Mapping[str, Interval]
    """every metric of the chosen strategy"""
    classes: tuple[ClassIntervals, ...]
    reasons: tuple[Reason, ...]
    bins: tuple[Bin, ...]
    temperature: float
    selective: Selective | None
    robustness: Robustness | None
    scratch_robustness: Robustness | None
    curve: Curve | None
    explained: Explained | None
    robustness_lead: Interval | None = None
    """the mean accuracy under corruption, less that of scratch on the same items"""
    unseen: str | None = None
    """what the source does not see of the target's samples, as a sentence"""
    labels: tuple[LabelFigures, ...] = ()
    """of several labels an item, which have no classes, bins, and so on either"""
    numbers: NumberDiagnostics | None = None
    """of a regression, which has no classes, bins, selective prediction, curve and explanations"""

    def to_json(self) -> str:
        """The numbers as indented JSON; pictures are left out."""
        curve = self.curve and {**asdict(self.curve), "catch_ups": [asdict(each) for each in self.curve.catch_ups]}
        found = {
            "intervals": {name: asdict(each) for name, each in self.intervals.items()},
            "classes": [asdict(each) for each in self.classes],
            "reasons": [asdict(each) for each in self.reasons],
            "reliability": [asdict(each) for each in self.bins],
            "temperature": self.temperature,
            "selective": self.selective
            and {
                "aurc": self.selective.aurc,
                "least_aurc": self.selective.oracle,
                "coverage": self.selective.coverage.tolist(),
                "risk": self.selective.risk.tolist(),
            },
            **({"labels": [asdict(each) for each in self.labels]} if self.labels else {}),
            **({"ranges": [asdict(each) for each in self.numbers.ranges]} if self.numbers else {}),
            "robustness": self.robustness and asdict(self.robustness),
            "scratch_robustness": self.scratch_robustness and asdict(self.scratch_robustness),
            "robustness_lead": self.robustness_lead and asdict(self.robustness_lead),
            "curve": curve,
            "explanation": self.explained
            and {"method": self.explained.method, "similarity_to_random_weights": self.explained.similarity},
        }
        return json.dumps(found, indent=2, allow_nan=False) + "\n"


def diagnose(
    assessment: Assessment,
    dataset: Dataset,
    source: Path,
    *,
    evaluation: Evaluation,
    training: Training | None = None,
    strategies: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Diagnostics:
    """Examine the contender that was chosen.

    `source` is the bundle that the strategies started from, `training` and `strategies` the recipe's, without which the
    curve has no trained networks.

    Raises:
        InputError: `curve_training` is asked for and `training` or `strategies` are missing.
    """
    board, start = assessment.leaderboard, ModelBundle.load(source)
    unseen = _unseen(start, dataset)
    if of_task := {REGRESSION: _of_numbers, MULTI_LABEL: _of_labels}.get(dataset.task):
        return of_task(assessment, dataset, unseen, evaluation, seed)
    # As the strategies read it, so that its features are found.
    start = for_samples(start, dataset.given)
    chosen, (paths, models) = board.chosen.strategy, _compared(assessment)
    start.network.to(training_device())
    features = _features(start, dataset)
    curve = None
    if evaluation.curve:
        trains = evaluation.curve_training
        if trains == "auto":
            trains = bool(training and strategies and _affords_trainings(assessment, models, dataset, evaluation.curve))
        trained = curve_trainings(board, start, strategies, training) if trains else {}
        curve = data_efficiency(dataset, evaluation.curve, features, metric=evaluation.metric, trained=trained)
    test, predictions = dataset.split("test"), assessment.predicted(board.chosen.strategy)
    labels, probabilities, groups = predictions.labels, predictions.probabilities, test.groups
    confidence = evaluation.confidence
    corrupted = _corrupted_rows(dataset, evaluation)
    robust = _robustness(models, paths, dataset, corrupted, confidence)
    return Diagnostics(
        intervals=metric_intervals(
            labels, probabilities, confidence=confidence, resamples=evaluation.resamples, seed=seed, groups=groups
        ),
        classes=tuple(
            class_intervals(labels, predictions.predicted, dataset.classes, confidence=confidence, groups=groups)
        ),
        reasons=tuple(_reasons(assessment, dataset, start, models, features, curve, seed)),
        bins=tuple(reliability_bins(labels, probabilities, confidence=confidence, groups=groups)),
        temperature=models[chosen].temperature,
        selective=selective_prediction(labels, probabilities),
        robustness=robust.get(chosen),
        scratch_robustness=robust.get(SCRATCH),
        robustness_lead=_lead(robust, chosen, groups[corrupted], confidence),
        curve=curve,
        explained=explained_samples(models[chosen], dataset, predictions, evaluation.explanations, seed=seed),
        unseen=unseen,
    )


def _compared(assessment: Assessment) -> tuple[dict[str, Path], dict[str, ModelBundle]]:
    """The paths of all contenders, and the bundles of the chosen strategy and of scratch on the device that trains."""
    paths = {each.strategy: each.path for each in assessment.contenders if each.path.is_dir()}
    chosen = assessment.leaderboard.chosen.strategy
    models = {name: ModelBundle.load(paths[name]) for name in (chosen, SCRATCH) if name in paths}
    for bundle in models.values():
        move_to_training_device(bundle.network)
    return paths, models


def _of_numbers(
    assessment: Assessment, dataset: Dataset, unseen: str | None, evaluation: Evaluation, seed: int
) -> Diagnostics:
    """The diagnostics of a regression. What explains or is fitted to fewer labels counts right answers, and numbers are
    seldom exactly right."""
    chosen = assessment.chosen.strategy
    predictions, groups = assessment.predicted(chosen), dataset.split("test").groups
    confidence, rows = evaluation.confidence, _corrupted_rows(dataset, evaluation)
    paths, models = _compared(assessment) if len(rows) else ({}, {})
    robust = _robustness(models, paths, dataset, rows, confidence)
    intervals = number_intervals(
        predictions, confidence=confidence, resamples=evaluation.resamples, seed=seed, groups=groups
    )
    return replace(
        _without_classes(intervals, float(predictions.outputs[0, 1]), unseen),
        numbers=diagnose_numbers(predictions, groups, assessment.chosen.held_out, confidence=confidence),
        robustness=robust.get(chosen),
        scratch_robustness=robust.get(SCRATCH),
    )


def _of_labels(
    assessment: Assessment, dataset: Dataset, unseen: str | None, evaluation: Evaluation, seed: int
) -> Diagnostics:
    """The diagnostics of several labels. What explains or is fitted to fewer labels asks which one class a sample
    has."""
    predictions, groups = assessment.predicted(assessment.chosen.strategy), dataset.split("test").groups
    how: Resampling = {
        "confidence": evaluation.confidence,
        "resamples": evaluation.resamples,
        "seed": seed,
        "groups": groups,
    }
    intervals = task_intervals(MULTI_LABEL, predictions.labels, predictions.predicted, len(predictions.classes), **how)
    paths, models = _compared(assessment)
    robust = _robustness(models, paths, dataset, _corrupted_rows(dataset, evaluation), evaluation.confidence)
    chosen = assessment.leaderboard.chosen.strategy
    return replace(
        _without_classes(intervals, models[chosen].temperature, unseen),
        labels=diagnose_labels(predictions, **how),
        robustness=robust.get(chosen),
        scratch_robustness=robust.get(SCRATCH),
    )


def _without_classes(intervals: Mapping[str, Interval], temperature: float, unseen: str | None) -> Diagnostics:
    return Diagnostics(
        intervals=intervals,
        classes=(),
        reasons=(),
        bins=(),
        temperature=temperature,
        selective=None,
        robustness=None,
        scratch_robustness=None,
        curve=None,
        explained=None,
        unseen=unseen,
    )


def _unseen(source: ModelBundle, dataset: Dataset) -> str | None:
    """What the source does not see of the target's samples, and who learns it all the same."""
    kind, reads = dataset.kind, for_samples(source, dataset.given).preprocessing
    if lost := kind.lost(reads.given, dataset.given):
        return (
            f"Of the target's {kind.noun}s the source does not see {lost}, and neither do strategies and scratch, "
            "which read as it does: another may do better."
        )
    if lost := kind.lost(source.preprocessing.given, dataset.given):
        return (
            f"Of {kind.noun}s like the target's the source did not see {lost}: strategies that train its first layer "
            "learn it of the target's labels alone, the others not at all, and another source may do better."
        )
    return None


def _affords_trainings(
    assessment: Assessment, models: Mapping[str, ModelBundle], dataset: Dataset, sizes: Sequence[int]
) -> bool:
    """Whether the curve's trainings take seconds: as many operations as the trainings on all labels took, each."""
    if SCRATCH not in models:
        return False
    trained = [assessment.history.get(name, ()) for name in (assessment.chosen.strategy, SCRATCH)]
    epochs = sum(map(len, trained)) * count_trainings(dataset, sizes)
    return epochs * epoch_flops(models[SCRATCH], dataset) <= _AFFORDABLE


def _corrupted_rows(dataset: Dataset, evaluation: Evaluation) -> np.ndarray:
    """The positions of the test items that are corrupted."""
    most = evaluation.corrupted(dataset.task) if dataset.kind.corruptions else 0
    return spread_out(dataset.split("test").labels, most)


def _robustness(
    models: Mapping[str, ModelBundle], paths: Mapping[str, Path], dataset: Dataset, rows: np.ndarray, confidence: float
) -> dict[str, Robustness]:
    """The robustness of models, whose bundles are at `paths`, on the test samples at `rows`; none without any."""
    if not len(rows):
        return {}
    test, state = dataset.split("test"), State.from_environment()
    samples = test.samples[rows]
    return {
        name: robustness(
            bundle,
            samples,
            test.labels[rows],
            confidence=confidence,
            groups=test.groups[rows],
            predicted=kept(
                {"model": bundle_digest(paths[name]), "corrupted": rows.tolist()},
                dataset,
                partial(predict_corrupted, bundle, samples),
                state,
            ),
        )
        for name, bundle in models.items()
    }


def _lead(robust: Mapping[str, Robustness], chosen: str, groups: np.ndarray, confidence: float) -> Interval | None:
    """The chosen strategy's mean accuracy on corrupted items, less that of scratch; None without one of the two."""
    if not (chosen in robust and SCRATCH in robust and robust[chosen].shares):
        return None
    difference = np.array(robust[chosen].shares) - np.array(robust[SCRATCH].shares)
    return mean_interval(difference, groups, confidence=confidence)


def headline_facts(assessment: Assessment, diagnostics: Diagnostics, dataset: Dataset) -> dict[str, str]:
    """The facts that stand beside the verdict (headstart/judging/headline.py), by name."""
    val, held_out = dataset.split("val"), assessment.chosen.held_out
    scratch = assessment.predictions / f"{SCRATCH}.parquet"
    return headline(
        Findings(
            assessment.leaderboard,
            assessment.predicted(assessment.leaderboard.chosen.strategy),
            read_predictions(scratch) if scratch.exists() else None,
            diagnostics.intervals,
            held_out.units if held_out else count_groups(val.groups) or len(val.labels),
            diagnostics.robustness,
            diagnostics.scratch_robustness,
            diagnostics.robustness_lead,
            diagnostics.unseen,
        )
    )


def _features(source: ModelBundle, dataset: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features (N, D) of the training and (M, D) of the test samples, by the source and by random weights."""
    train, test, random = dataset.split("train"), dataset.split("test"), with_random_weights(source)
    # A run of the same source and target finds all of them.
    state = State.from_environment()
    return {
        "source": (vectors(source, train, state), kept_features_of(source, dataset, state)),
        "random": (vectors(random, train, state, precision="fp32"), vectors(random, test, state, precision="fp32")),
    }


def _reasons(
    assessment: Assessment,
    dataset: Dataset,
    source: ModelBundle,
    models: Mapping[str, ModelBundle],
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    curve: Curve | None,
    seed: int,
) -> list[Reason]:
    train, board = dataset.split("train"), assessment.leaderboard
    seen = spread_out(train.labels, _SEEN)
    probed = spread_out(train.labels, max(_SEEN, _PROBED_PER_CLASS * len(dataset.classes)))
    accuracies = {entry.strategy: entry.accuracy or 0.0 for entry in board.entries}
    return reasons(
        board,
        probe=_probe(
            [ours[probed] for ours, _ in features.values()],
            train.labels[probed],
            group_numbers(train.groups[probed]),
            seed=seed,
        ),
        distance=source_distance(source, train.samples[seen]),
        fitted=[Fitted(name, accuracy_at(bundle, dataset, seen), accuracies[name]) for name, bundle in models.items()],
        curve=curve,
    )


def _probe(features: Sequence[np.ndarray], labels: np.ndarray, groups: np.ndarray | None, *, seed: int) -> Probe | None:
    """The cross-validated probe on features (N, D) of the source and of random weights; None where the labels,
    int (N,) and in `groups`, are too few to test it on any sample.

    Its standard error is not 0 where all folds are right: it is at least that of as many hits among as many items, or
    as many as the groups are worth (Wilson).
    """
    figures = []
    for each in features:
        found = cross_validated_hits(each, labels, seed=seed, groups=groups)
        hits = found.right
        if len(hits) == 0:
            return None
        proportion = share_interval(hits, groups_at(groups, found.held_out))
        error = float(hits.std() / np.sqrt(len(hits)))
        figures += [float(hits.mean()), max(error, (proportion.high - proportion.low) / (2 * 1.96))]
    return Probe(*figures)
