"""The assessment: every contender on the target's test split, once, and the leaderboard of what they reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.data.dataset import Dataset
from headstart.errors import HeadstartError
from headstart.judging.combination import trained_again
from headstart.judging.contenders import Candidate, Contender
from headstart.judging.evidence import Evidence, digests, figures, seen
from headstart.judging.kept_predictions import kept_predictions_of
from headstart.judging.leaderboard import Leaderboard, build_leaderboard
from headstart.judging.learned import unlearned
from headstart.judging.monitoring import features_to_keep
from headstart.judging.retraining import read_retrained
from headstart.judging.section import Evaluation
from headstart.judging.serving_cost import cost_of
from headstart.metrics.classification import largest_confusions
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.storage.state import State
from headstart.training.engine import move_to_training_device

if TYPE_CHECKING:
    from headstart.judging.savings import Saving


@dataclass(frozen=True)
class Assessment:
    """The contenders with all that the test split says about them; mappings are by strategy."""

    leaderboard: Leaderboard
    metrics: Mapping[str, dict[str, Any]]
    """`Predictions.figures` of each contender"""
    contenders: tuple[Contender, ...]
    predictions: Path
    """the folder with the test predictions of each contender, `<strategy>.parquet`"""
    history: Mapping[str, list[dict[str, float]]]
    """the epochs of those that trained: "epoch", "train/loss", "val/loss", "val/<metric>", where they were recorded"""
    kept: Mapping[str, int | None]
    """the epoch whose weights each of these kept; 0 is the start, None between the start and an epoch"""
    savings: Mapping[str, "Saving"] = field(default_factory=dict)
    """what each of the strategies saves against scratch, where it is known"""

    def with_facts(self, facts: Mapping[str, str]) -> "Assessment":
        """The assessment with the facts that stand beside the verdict."""
        return replace(self, leaderboard=replace(self.leaderboard, facts=dict(facts)))

    @property
    def chosen(self) -> Contender:
        """The contender that was chosen."""
        return next(each for each in self.contenders if each.strategy == self.leaderboard.chosen.strategy)

    @property
    def confusion(self) -> tuple[list[str], list[list[int]]]:
        """The `largest_confusions` of the contender that was chosen, and their classes; none of numbers."""
        metrics = self.metrics[self.chosen.strategy]
        if "confusion" not in metrics:
            return [], []
        return largest_confusions([row["name"] for row in metrics["per_class"]], metrics["confusion"])

    @property
    def delivered(self) -> Contender:
        """The contender that is handed over: the chosen one or a baseline that is better."""
        return next(each for each in self.contenders if each.strategy == self.leaderboard.delivered_entry.strategy)

    @property
    def winner(self) -> dict[str, Any]:
        """The delivered contender as its bundle's metadata, with the verdict on the transfer."""
        board, best = self.leaderboard, self.leaderboard.delivered_entry
        return {
            "digest": bundle_digest(self.delivered.path),
            "strategy": best.strategy,
            "run_id": best.run_id,
            "verdict": board.verdict,
            "transfer": board.chosen.strategy,
        }

    def predicted(self, strategy: str) -> Predictions:
        """The predictions of one contender on the test split."""
        return read_predictions(self.predictions / f"{strategy}.parquet")

    @property
    def summary(self) -> dict[str, float]:
        """The chosen contender's figures in three numbers: the metric, macro F1 or R² and, over scratch, the gain."""
        best = self.leaderboard.chosen
        gain = {} if best.gain is None else {"gain": best.gain}
        return {best.metric: best.value, **best.second, **gain}

    def figures(self, strategy: str) -> dict[str, float]:
        """The figures of one contender under their names in the record."""
        entry = next(each for each in self.leaderboard.entries if each.strategy == strategy)
        score = Interval(entry.value, entry.low, entry.high)
        gain = _interval(entry.gain, entry.gain_low, entry.gain_high)
        over_best = _interval(entry.gain_over_best, entry.gain_over_best_low, entry.gain_over_best_high)
        saving = self.savings.get(strategy)
        known = {name: value for name, value in saving.figures.items() if value is not None} if saving else {}
        if entry.size is not None and entry.milliseconds is not None:
            known |= {"model/megabytes": entry.size / 1e6, "speed/milliseconds": entry.milliseconds}
        return {**figures(self.metrics[strategy], entry.metric, score, gain, over_best), **known}


def evaluate(
    contenders: Sequence[Contender], dataset: Dataset, predictions: Path, *, evaluation: Evaluation, seed: int = 0
) -> Assessment:
    """Predict the test split with every contender and compare them.

    Writes `predictions/<strategy>.parquet` for each contender. `seed` is the bootstrap's.

    Raises:
        HeadstartError: a contender was trained on another data set, whose training samples may be test samples here.
    """
    predictions.mkdir(parents=True, exist_ok=True)
    candidates, metrics, trained, retrained, unfinished = [], {}, {}, {}, {}
    formed: dict[str, ModelBundle] = {}
    for contender in contenders:
        name, cost = contender.strategy, None
        bundle = _load(contender, dataset)
        if bundle:
            # On the CPU still, as most models are served.
            cost = cost_of(bundle, contender.path)
            move_to_training_device(bundle.network)
            found = kept_predictions_of(bundle, contender.path, dataset, State.from_environment())
        else:
            found = _kept(contender, dataset)
        provenance = bundle.provenance if bundle else {}
        found.save(predictions / f"{name}.parquet")
        metrics[name] = found.figures
        candidates.append(Candidate(contender, found, cost))
        if provenance.get("history"):
            trained[name] = provenance
            retrained[name] = [each.predicted for each in read_retrained(contender.path)]
        if bundle and contender.members:
            formed[name] = bundle
        if bundle and contender.kind == "baseline" and (share := unlearned(bundle, dataset)) is not None:
            unfinished[name] = share
    shown = {each.contender.strategy: each.predictions for each in candidates}
    for name, bundle in formed.items():
        again = {each.strategy: read_retrained(each.path) for each in contenders if each.strategy in trained}
        if answers := trained_again(bundle, shown, again):
            retrained[name] = answers
    return Assessment(
        build_leaderboard(candidates, evaluation, seed=seed, retrained=retrained, unlearned=unfinished),
        metrics,
        tuple(contenders),
        predictions,
        history={name: each["history"] for name, each in trained.items()},
        kept={name: each.get("kept_epoch") for name, each in trained.items()},
    )


def _kept(contender: Contender, dataset: Dataset) -> Predictions:
    """The test predictions of a contender whose model is not kept."""
    test, kept = dataset.split("test"), read_predictions(contender.path)
    if kept.ids.tolist() != test.ids.tolist() or tuple(kept.classes) != dataset.classes:
        raise HeadstartError(
            f"{contender.strategy} was tested on different samples or classes than those of {dataset.digest}; "
            "fit it on this data set."
        )
    return Predictions(test.ids, test.labels, kept.outputs, dataset.classes, test.groups, dataset.task)


def _load(contender: Contender, dataset: Dataset) -> ModelBundle | None:
    """The contender's model, which was trained on this data set; None where only predictions are kept."""
    if not contender.is_kept:
        return None
    bundle = ModelBundle.load(contender.path)
    for name, digest in dataset.digests.items():
        if (trained_on := bundle.provenance.get(name)) != digest:
            data = "the data set" if name == "data_digest" else "the training split"
            raise HeadstartError(
                f"{contender.strategy} was trained on {data} {trained_on}, not on {digest}, and may know "
                "samples that it would be judged on; train it on this data set."
            )
    return bundle


def evidence(assessment: Assessment, dataset: Dataset, *, report: str, address: str) -> Evidence:
    """The evidence for the contender that is delivered.

    `report` is the page about the assessment, `address` where the data set lies for others: a path or an s3:// address.
    """
    board, delivered = assessment.leaderboard, assessment.delivered.strategy
    bundle = ModelBundle.load(assessment.delivered.path)
    move_to_training_device(bundle.network)
    return Evidence(
        metric=board.metric,
        figures=assessment.figures(delivered),
        sentence=f"{board.sentence} Delivered: {board.delivery}.",
        digests=digests(dataset),
        dataset=address,
        predictions=assessment.predicted(delivered),
        trained_on=seen(dataset),
        report=report,
        features=features_to_keep(bundle, dataset, State.from_environment()),
    )


def _interval(value: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if value is None or low is None or high is None else Interval(value, low, high)
