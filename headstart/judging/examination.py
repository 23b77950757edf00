"""A close look at the chosen model, once the verdict has fallen: how sure its figures are, why transfer helped or not,
how far it can be relied on, and what its predictions rest on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from headstart.data.dataset import Dataset, Split
from headstart.data.subsets import spread_out
from headstart.features.extraction import vectors
from headstart.features.heads import cross_validated_hits
from headstart.html import image_uri
from headstart.judging.curve import Curve, Kind, Train, data_efficiency
from headstart.judging.explanation import (
    explain,
    has_attention,
    nearest_training_samples,
    overlay,
    with_random_weights,
)
from headstart.judging.leaderboard import SCRATCH, Leaderboard
from headstart.judging.reasons import Fitted, Probe, Reason, reasons, source_distance
from headstart.judging.reliability import Bin, Selective, hardest, reliability_bins, selective_prediction
from headstart.judging.robustness import Robustness, robustness
from headstart.judging.section import Evaluation
from headstart.metrics.intervals import ClassIntervals, Interval, class_intervals, metric_intervals, wilson_interval
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.engine import training_device
from headstart.training.section import Training

# Training samples that are looked at again: more would tell the figures apart no better.
_SEEN = 1000
# … but for a probe, which needs some of each class.
_PROBED_PER_CLASS = 5
_PROTOTYPES = 3
# Transformers are explained by many passes a picture, other networks by one.
_MOST_BY_GRADIENTS = 4


@dataclass(frozen=True)
class Neighbour:
    """A training sample that the model finds similar."""

    picture: str
    label: str
    cosine: float


@dataclass(frozen=True)
class Sample:
    """A test item, what was said of it and why; pictures are `data:` URIs."""

    picture: str
    heat: str
    """the picture under its map"""
    label: str
    predicted: str
    probability: float
    """of the label"""
    confidence: float
    """the probability of the predicted class"""
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Explained:
    """How the samples were explained, and whether the maps depend on what was learned."""

    method: str
    similarity: float
    sane: bool
    hardest: tuple[Sample, ...]
    right: tuple[Sample, ...]


@dataclass(frozen=True, eq=False)
class Examination:
    """All that was found; what the recipe did not ask for is None."""

    intervals: Mapping[str, Interval]
    """every metric of the chosen strategy"""
    classes: tuple[ClassIntervals, ...]
    reasons: tuple[Reason, ...]
    bins: tuple[Bin, ...]
    temperature: float
    selective: Selective
    robustness: Robustness | None
    scratch_robustness: Robustness | None
    curve: Curve | None
    explained: Explained | None

    def to_json(self) -> str:
        """The numbers as JSON; pictures are left out."""
        curve = self.curve and {**asdict(self.curve), "catch_ups": [asdict(each) for each in self.curve.catch_ups]}
        found = {
            "intervals": {name: asdict(each) for name, each in self.intervals.items()},
            "classes": [asdict(each) for each in self.classes],
            "reasons": [asdict(each) for each in self.reasons],
            "reliability": [asdict(each) for each in self.bins],
            "temperature": self.temperature,
            "selective": {
                "aurc": self.selective.aurc,
                "least_aurc": self.selective.oracle,
                "coverage": self.selective.coverage.tolist(),
                "risk": self.selective.risk.tolist(),
            },
            "robustness": self.robustness and asdict(self.robustness),
            "scratch_robustness": self.scratch_robustness and asdict(self.scratch_robustness),
            "curve": curve,
            "explanation": self.explained
            and {"method": self.explained.method, "similarity_to_random_weights": self.explained.similarity},
        }
        return json.dumps(found, indent=2, allow_nan=False) + "\n"


def examine(
    board: Leaderboard,
    models: Mapping[str, Path],
    dataset: Dataset,
    predictions: Predictions,
    source: ModelBundle,
    *,
    evaluation: Evaluation,
    trainings: Mapping[str, tuple[Kind, Train]] | None = None,
    state: State | None = None,
    seed: int = 0,
) -> Examination:
    """Looks at the strategy that `board` chose.

    `models` are the bundles' directories by strategy, `predictions` those of the chosen one on the test split, `source`
    what the strategies started from, and `trainings` what the curve trains beside what it fits.
    """
    state = state or State.from_environment()
    chosen = ModelBundle.load(models[board.chosen.strategy])
    scratch = ModelBundle.load(models[SCRATCH]) if SCRATCH in models else None
    for bundle in filter(None, (chosen, scratch, source)):
        bundle.network.to(training_device())
    train, test = dataset.split("train"), dataset.split("test")
    labels, probabilities = predictions.labels, predictions.probabilities
    confidence = evaluation.confidence
    seen = spread_out(train.labels, _SEEN)
    random = with_random_weights(source)
    # Only the source's features of the training split are kept already; the others are read once.
    features = {
        "source": (vectors(source, train, state), vectors(source, test, precision="fp32")),
        "random": (vectors(random, train, precision="fp32"), vectors(random, test, precision="fp32")),
    }
    curve = None
    if evaluation.curve:
        curve = data_efficiency(dataset, evaluation.curve, features, metric=evaluation.metric, trained=trainings)
    fitted = [
        Fitted(entry.strategy, _accuracy(bundle, train, seen), entry.accuracy)
        for bundle, name in ((chosen, board.chosen.strategy), (scratch, SCRATCH))
        for entry in board.entries
        if bundle is not None and entry.strategy == name
    ]
    probed = spread_out(train.labels, max(_SEEN, _PROBED_PER_CLASS * len(dataset.classes)))
    found = reasons(
        board,
        probe=_probed([ours[probed] for ours, _ in features.values()], train.labels[probed], seed=seed),
        distance=source_distance(source, train.samples[seen]),
        fitted=fitted,
        curve=curve,
    )
    corrupted = spread_out(labels, evaluation.robustness)
    judged = [
        robustness(bundle, np.array(test.samples[corrupted]), labels[corrupted], confidence=confidence)
        if bundle is not None and len(corrupted)
        else None
        for bundle in (chosen, scratch)
    ]
    return Examination(
        intervals=metric_intervals(
            labels, probabilities, confidence=confidence, resamples=evaluation.resamples, seed=seed
        ),
        classes=tuple(class_intervals(labels, probabilities.argmax(axis=1), dataset.classes, confidence=confidence)),
        reasons=tuple(found),
        bins=tuple(reliability_bins(labels, probabilities, confidence=confidence)),
        temperature=chosen.temperature,
        selective=selective_prediction(labels, probabilities),
        robustness=judged[0],
        scratch_robustness=judged[1],
        curve=curve,
        explained=_explained(chosen, dataset, predictions, evaluation.explanations, seed=seed),
    )


def trainings(
    board: Leaderboard, source: ModelBundle, strategies: list[Strategy], training: Training
) -> dict[str, tuple[Kind, Train]]:
    """The chosen strategy and scratch as the curve trains them: with the recipe's budget on a part of the labels."""
    from headstart.strategies.transfer import transfer

    strategy = next(each for each in strategies if each.name == board.chosen.strategy)

    def transferred(dataset: Dataset, seed: int) -> ModelBundle:
        context = RunContext(seed, board.metric)
        return transfer(source, dataset, strategy, training=training, context=context).bundle

    def scratch(dataset: Dataset, seed: int) -> ModelBundle:
        fit = BASELINES[SCRATCH].fit
        return fit(Like.of(source), dataset, training, RunContext(seed, board.metric)).bundle

    return {f"{strategy.name}, trained": ("transfer", transferred), f"{SCRATCH}, trained": ("baseline", scratch)}


def _accuracy(bundle: ModelBundle, split: Split, positions: np.ndarray) -> float:
    predicted = bundle.predict_logits(split.samples[positions]).argmax(axis=1)
    return float(np.mean(predicted == split.labels[positions]))


def _probed(features: Sequence[np.ndarray], labels: np.ndarray, *, seed: int) -> Probe | None:
    """The cross-validated probe on features (N, D) of the source and of random weights; None where labels, int (N,),
    are too few to ask it about any sample.

    Its standard error is not 0 where all folds are right: it is at least that of as many hits among as many items
    (Wilson).
    """
    figures = []
    for each in features:
        hits = cross_validated_hits(each, labels, seed=seed)
        if len(hits) == 0:
            return None
        proportion = wilson_interval(int(hits.sum()), len(hits))
        error = float(hits.std() / np.sqrt(len(hits)))
        figures += [float(hits.mean()), max(error, (proportion.high - proportion.low) / (2 * 1.96))]
    return Probe(*figures)


def _explained(
    bundle: ModelBundle, dataset: Dataset, predictions: Predictions, count: int, *, seed: int
) -> Explained | None:
    """The hardest test items and as many that are right, half of `count` each."""
    if has_attention(bundle.network):
        count = min(count, _MOST_BY_GRADIENTS)
    if not count:
        return None
    train, test = dataset.split("train"), dataset.split("test")
    predicted = predictions.probabilities.argmax(axis=1)
    hard = hardest(predictions.labels, predictions.probabilities, (count + 1) // 2)
    right = np.setdiff1d(np.flatnonzero(predicted == predictions.labels), hard)
    typical = right[spread_out(predictions.labels[right], count // 2)]
    shown = np.concatenate([hard, typical])
    samples, prototypes = np.array(test.samples[shown]), spread_out(train.labels, _SEEN)
    explanation = explain(bundle, samples, predicted[shown], seed=seed)
    nearest, cosines = nearest_training_samples(
        bundle, samples, train.samples[prototypes], min(_PROTOTYPES, len(prototypes))
    )

    def sample(row: int) -> Sample:
        item = int(shown[row])
        neighbours = tuple(
            Neighbour(image_uri(train.samples[position]), dataset.classes[train.labels[position]], float(cosine))
            for position, cosine in zip(prototypes[nearest[row]], cosines[row], strict=True)
        )
        return Sample(
            picture=image_uri(samples[row]),
            heat=image_uri(overlay(samples[row], explanation.maps[row])),
            label=dataset.classes[predictions.labels[item]],
            predicted=dataset.classes[predicted[item]],
            probability=float(predictions.probabilities[item, predictions.labels[item]]),
            confidence=float(predictions.probabilities[item].max()),
            neighbours=neighbours,
        )

    rows = [sample(row) for row in range(len(shown))]
    return Explained(
        explanation.method,
        explanation.similarity,
        explanation.sane,
        tuple(rows[: len(hard)]),
        tuple(rows[len(hard) :]),
    )
