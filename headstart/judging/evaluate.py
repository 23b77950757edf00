"""Evaluation: every strategy and baseline on the target's test split, once, and the one that validation chose."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import HeadstartError, InputError
from headstart.judging.evidence import Evidence, figures
from headstart.judging.leaderboard import SCRATCH, Candidate, Kind, Leaderboard, build_leaderboard
from headstart.judging.report import render_report, render_source_report
from headstart.judging.section import Evaluation
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import classification_metrics
from headstart.metrics.intervals import Interval, bootstrap_interval
from headstart.metrics.metric import metric_title
from headstart.metrics.predictions import Predictions, read_predictions, write_predictions
from headstart.models.bundle import ModelBundle
from headstart.models.reference import unpinned
from headstart.strategies.section import Strategy
from headstart.training.section import Training

if TYPE_CHECKING:
    from headstart.judging.examination import Examination


# Beside the baseline scratch lie the test predictions of its trainings with other seeds.
RETRAINED = "retrained"


@dataclass(frozen=True)
class Contender:
    """A trained strategy or baseline before it is judged: where it lies and what its training came to.

    `path` is a model bundle, or a Parquet file with test predictions where the model itself cannot be kept.
    """

    strategy: str
    kind: Kind
    path: Path
    validation: float
    seconds: float
    run_id: str
    source: str | None = None

    def to_metadata(self) -> dict[str, Any]:
        """JSON values for an artifact's metadata; the path is the artifact's own."""
        return {key: value for key, value in asdict(self).items() if key != "path"}

    @classmethod
    def from_metadata(cls, path: Path, metadata: dict[str, Any]) -> "Contender":
        """What `to_metadata` wrote, with the artifact's path; further keys in `metadata` are the artifact's own."""
        keys = cls.__dataclass_fields__.keys() & metadata.keys() - {"path"}
        # Metadata hold no NaN and no None.
        return cls(path=path, **{"validation": math.nan, **{key: metadata[key] for key in keys}})


@dataclass(frozen=True)
class Assessment:
    """The leaderboard, each contender's full metrics by strategy, the training history of those that trained, the
    contender that was chosen, and the epochs whose weights were kept."""

    leaderboard: Leaderboard
    metrics: dict[str, dict[str, Any]]
    history: dict[str, list[dict[str, float]]]
    chosen: Contender
    kept: dict[str, int | None] = field(default_factory=dict)
    """0 is the start; None where the weights lie between those of epochs"""

    @property
    def summary(self) -> dict[str, float]:
        """The chosen contender's figures in three numbers: the metric, macro F1 and, over scratch, the gain."""
        best = self.leaderboard.chosen
        gain = {} if best.gain is None else {"gain": best.gain}
        return {best.metric: best.value, "macro_f1": best.macro_f1, **gain}

    def figures(self, strategy: str) -> dict[str, float]:
        """The figures of one contender under their names in the record."""
        entry = next(each for each in self.leaderboard.entries if each.strategy == strategy)
        gain = None
        if entry.gain is not None and entry.gain_low is not None and entry.gain_high is not None:
            gain = Interval(entry.gain, entry.gain_low, entry.gain_high)
        score = Interval(entry.value, entry.low, entry.high)
        return figures(self.metrics[strategy], entry.metric, score, gain)


def evaluate(
    contenders: Sequence[Contender], dataset: Dataset, predictions: Path, *, evaluation: Evaluation, seed: int = 0
) -> Assessment:
    """Predicts the test split with every contender, keeps the predictions and builds the leaderboard.

    Writes `predictions/<strategy>.parquet` for each contender.

    Raises:
        HeadstartError: a contender was trained on another data set, whose training samples may be test samples here.
    """
    test = dataset.split("test")
    predictions.mkdir(parents=True, exist_ok=True)
    candidates: list[Candidate] = []
    retrained: list[np.ndarray] = []
    metrics: dict[str, dict[str, Any]] = {}
    history: dict[str, list[dict[str, float]]] = {}
    kept_epochs: dict[str, int | None] = {}
    for contender in contenders:
        if contender.path.is_dir():
            bundle = ModelBundle.load(contender.path)
            for name, digest in dataset.digests.items():
                if (trained_on := bundle.provenance.get(name)) != digest:
                    data = "the data set" if name == "data_digest" else "the training split"
                    raise HeadstartError(
                        f"{contender.strategy} was trained on {data} {trained_on}, not on {digest}, and may know "
                        "samples that it would be judged on; train it on this data set."
                    )
            probabilities = bundle.predict_probabilities(test.samples)
            if trained := bundle.provenance.get("history"):
                history[contender.strategy] = trained
                kept_epochs[contender.strategy] = bundle.provenance.get("kept_epoch")
        else:
            kept = read_predictions(contender.path)
            if kept.ids.tolist() != test.ids.tolist() or tuple(kept.classes) != dataset.classes:
                raise HeadstartError(
                    f"{contender.strategy} was tested on different samples or classes than those of {dataset.digest}; "
                    "fit it on this data set."
                )
            probabilities = kept.probabilities
        write_predictions(
            predictions / f"{contender.strategy}.parquet", test.ids, test.labels, probabilities, dataset.classes
        )
        metrics[contender.strategy] = classification_metrics(test.labels, probabilities, dataset.classes)
        candidates.append(
            Candidate(
                strategy=contender.strategy,
                kind=contender.kind,
                source=contender.source,
                ids=test.ids,
                labels=test.labels,
                probabilities=probabilities,
                validation=contender.validation,
                seconds=contender.seconds,
                run_id=contender.run_id,
            )
        )
        if contender.strategy == SCRATCH:
            again = sorted(contender.path.parent.glob(f"{RETRAINED}/*.parquet"))
            retrained = [read_predictions(each).probabilities.argmax(axis=1) for each in again]
    leaderboard = build_leaderboard(
        candidates,
        retrained=retrained,
        metric=evaluation.metric,
        confidence=evaluation.confidence,
        min_gain=evaluation.min_gain,
        resamples=evaluation.resamples,
        seed=seed,
    )
    chosen = next(c for c in contenders if c.strategy == leaderboard.chosen.strategy)
    return Assessment(leaderboard, metrics, history, chosen, kept_epochs)


def read_baselines(directory: Path) -> list[Contender]:
    """The contenders that `directory/baselines.json` lists."""
    listed = json.loads((directory / "baselines.json").read_text())
    return [Contender.from_metadata(directory / entry["path"], entry) for entry in listed]


def look_closer(
    assessment: Assessment,
    contenders: Sequence[Contender],
    dataset: Dataset,
    predictions: Path,
    source: Path,
    *,
    evaluation: Evaluation,
    training: Training | None = None,
    strategies: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> "Examination":
    """The examination of the chosen contender; `predictions` is the folder that `evaluate` filled, `source` the bundle
    that the strategies started from, `training` and `strategies` the recipe's, which only `curve_training` needs.

    Raises:
        InputError: `curve_training` is asked for and the training is not told.
    """
    from headstart.judging.examination import examine, trainings

    board, bundle = assessment.leaderboard, ModelBundle.load(source)
    trained = None
    if evaluation.curve_training:
        if training is None or not strategies:
            raise InputError("evaluation.curve_training needs the recipe's training and strategies; give them.")
        sections = [Strategy.of(dict(each), at="strategies") for each in strategies]
        trained = trainings(board, bundle, sections, training)
    return examine(
        board,
        {each.strategy: each.path for each in contenders if each.path.is_dir()},
        dataset,
        read_predictions(predictions / f"{board.chosen.strategy}.parquet"),
        bundle,
        evaluation=evaluation,
        trainings=trained,
        seed=seed,
    )


def report(
    assessment: Assessment,
    examination: "Examination",
    dataset: Dataset,
    *,
    experiment: str,
    source: Mapping[str, Any],
    run_id: str,
    tracking_uri: str,
) -> str:
    """The page about an assessment.

    `source` is the metadata of the source that the strategies started from, `run_id` the MLflow run that holds the
    resolved recipe, at `tracking_uri` (without a password: the page is shown around).
    """
    board = assessment.leaderboard
    return render_report(
        experiment,
        board,
        assessment.metrics[board.chosen.strategy],
        examination=examination,
        history=assessment.history,
        kept=assessment.kept,
        ranking=source.get("ranking", []),
        ranking_reason=" ".join([source.get("reason", ""), *source.get("warnings", [])]).strip(),
        data=_facts(dataset),
        lineage={
            "Source model": unpinned(source["source"]),
            "Source digest": source["digest"],
            "Chosen model": f"{board.chosen.strategy}, run {board.chosen.run_id}" if board.chosen.run_id else None,
            "Pipeline run": run_id,
        },
        reproduction=f"export MLFLOW_TRACKING_URI={tracking_uri}\n"
        f"mlflow artifacts download -r {run_id} -a recipe.json -d .\n"
        "headstart run recipe.json",
    )


def evidence(assessment: Assessment, dataset: Dataset, predictions: Path, *, report: str, address: str) -> Evidence:
    """What speaks for the contender that was chosen.

    `predictions` is the folder that `evaluate` filled, `report` the page about the assessment, `address` where the data
    set lies for others: a path or an s3:// address.
    """
    chosen = assessment.chosen.strategy
    return Evidence(
        metric=assessment.leaderboard.metric,
        figures=assessment.figures(chosen),
        sentence=assessment.leaderboard.sentence,
        digests=_digests(dataset),
        dataset=address,
        predictions=read_predictions(predictions / f"{chosen}.parquet"),
        trained_on=_seen(dataset),
        report=report,
    )


def evaluate_source(bundle: ModelBundle, dataset: Dataset, *, experiment: str, address: str, seed: int = 0) -> Evidence:
    """What speaks for a source: how well it does on the test split of its own data; `address` as for `evidence`.

    Judged as a recipe is by default: a source serves many targets, each with an evaluation of its own. One without a
    head is judged by a linear head on its features, which is not kept; on data without labels nothing can be said.
    """
    evaluation = Evaluation()
    test = dataset.split("test")
    if not dataset.classes:
        return _unlabelled_evidence(bundle, dataset, experiment=experiment, address=address, metric=evaluation.metric)
    probabilities = bundle.predict_probabilities(test.samples) if bundle.classes else _probed(bundle, dataset)
    metrics = classification_metrics(test.labels, probabilities, dataset.classes)
    score = bootstrap_interval(
        evaluation.metric,
        test.labels,
        probabilities.argmax(axis=1),
        len(dataset.classes),
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
    )
    reached = f"{score.value:.3f} {metric_title(evaluation.metric)} [{score.low:.3f}, {score.high:.3f}]"
    subject = "The source" if bundle.classes else "A linear head on the source's features"
    sentence = (
        f"{subject} reaches {reached} at {100 * evaluation.confidence:g}% confidence on {len(test.labels):,} test "
        "items of its own data."
    )
    return Evidence(
        metric=evaluation.metric,
        figures=figures(metrics, evaluation.metric, score),
        sentence=sentence,
        digests=_digests(dataset),
        dataset=address,
        predictions=Predictions(test.ids, test.labels, probabilities, dataset.classes),
        trained_on=_seen(dataset),
        report=render_source_report(
            experiment, sentence, metrics, data=_source_facts(bundle, dataset), architecture=bundle.architecture
        ),
    )


def _unlabelled_evidence(
    bundle: ModelBundle, dataset: Dataset, *, experiment: str, address: str, metric: str
) -> Evidence:
    ids = dataset.split("test").ids
    sentence = "The source's own data has no labels: what it is worth shows on a target."
    return Evidence(
        metric=metric,
        figures={},
        sentence=sentence,
        digests=_digests(dataset),
        dataset=address,
        predictions=Predictions(ids, np.full(len(ids), -1), np.empty((len(ids), 0), dtype=np.float32), ()),
        trained_on=_seen(dataset),
        report=render_source_report(
            experiment, sentence, None, data=_source_facts(bundle, dataset), architecture=bundle.architecture
        ),
    )


def _probed(bundle: ModelBundle, dataset: Dataset) -> np.ndarray:
    """Probabilities (N, K) for the test split by the best linear head on the bundle's features, calibrated."""
    from scipy.special import softmax

    from headstart.features.heads import best_head

    train, val, test = (dataset.split(name) for name in SPLITS)
    features = bundle.predict_features(val.samples)
    head, _, _ = best_head(
        bundle.predict_features(train.samples),
        train.labels,
        features,
        val.labels,
        classes=len(dataset.classes),
        metric=Evaluation().metric,
    )
    temperature = fit_temperature(head.logits(features), val.labels)
    probabilities: np.ndarray = softmax(head.logits(bundle.predict_features(test.samples)) / temperature, axis=1)
    return probabilities


def _source_facts(bundle: ModelBundle, dataset: Dataset) -> dict[str, object]:
    objective = bundle.provenance.get("objective")
    return {**({"Objective": f"{objective}, without labels"} if objective else {}), **_facts(dataset)}


def _facts(dataset: Dataset) -> dict[str, object]:
    return {
        "Data": dataset.manifest["source"]["uri"],
        "Digest": dataset.digest,
        "Classes": len(dataset.classes) or "none, its samples have no labels",
        "Training / validation / test samples": " / ".join(str(dataset.counts[name]) for name in SPLITS),
    }


def _digests(dataset: Dataset) -> dict[str, str]:
    return {**dataset.digests, "test_digest": dataset.split_digest("test")}


def _seen(dataset: Dataset) -> np.ndarray:
    """The ids (N,) of the samples that training saw or that chose the best epoch and strategy."""
    return np.concatenate([dataset.split(name).ids for name in ("train", "val")])
