"""The data-efficiency curve: the test metric against the labels a class, for a start from the source and without one.

Heads on frozen features are fitted in milliseconds, so the whole curve costs seconds; whole trainings on parts of the
labels are made only where the recipe asks for them.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headstart.data.dataset import SPLITS, STREAMED, Dataset
from headstart.data.encoded import EncodedSamples
from headstart.data.ragged import RaggedSamples
from headstart.data.subsets import spread_out, with_every_class
from headstart.errors import InputError
from headstart.judging.contenders import SCRATCH, Kind
from headstart.judging.leaderboard import Leaderboard
from headstart.metrics.groups import group_numbers
from headstart.metrics.tally import score
from headstart.models.bundle import ModelBundle
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.section import Training

Predict = Callable[[np.ndarray, int], np.ndarray]
Train = Callable[[Dataset, int], ModelBundle]
"""a model, trained on a data set with a seed"""

SEEDS = 3
# More labels than these fill the memory with features, and no curve is still steep there.
_MOST = 10_000


@dataclass(frozen=True)
class Point:
    """The scores of a method at one number of labels a class."""

    labels_per_class: int
    scores: tuple[float, ...]
    """one for each draw of the labels"""

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Series:
    """One method's points, fewest labels first."""

    name: str
    kind: Kind
    points: tuple[Point, ...]
    trained: bool = False
    """whether whole networks were trained, rather than a model fitted to frozen features"""


@dataclass(frozen=True)
class Rise:
    """The gain of a method from the last doubling of the labels, with its standard error over the draws."""

    method: str
    labels_per_class: int
    value: float
    error: float


@dataclass(frozen=True)
class CatchUp:
    """The number of labels a class from which on a baseline is as good as the best start from the source."""

    baseline: str
    labels_per_class: float | None
    """between two points on the logarithmic axis; None where it is behind at all of them"""


@dataclass(frozen=True)
class Curve:
    """The curve of all methods; every point is the mean over `SEEDS` draws of labels, the last one of all labels."""

    metric: str
    series: tuple[Series, ...]
    seconds: float
    complete: bool = True
    """whether the last point is of all labels; where there are very many it is not"""

    @property
    def sizes(self) -> list[int]:
        """The labels a class at which there are points."""
        return sorted({point.labels_per_class for each in self.series for point in each.points})

    @property
    def catch_ups(self) -> list[CatchUp]:
        """For each baseline where it catches up for good with the transfer that is best at each point."""
        best = {
            size: max(_mean_at(each, size) for each in self.series if each.kind == "transfer") for size in self.sizes
        }
        return [CatchUp(each.name, _crossing(each, best)) for each in self.series if each.kind == "baseline"]

    def last_doubling(self, *, trained: bool) -> Rise | None:
        """The gain from the last doubling of the labels, interpolated, of the transfer that is best with all of them;
        None for a single point.

        Either the transfers that were `trained` or those that were not are considered: frozen features stop gaining
        from labels long before a network that trains on them. The draw of all labels counts as spread like those of
        fewer.
        """
        asked = [each for each in self.series if each.kind == "transfer" and each.trained == trained]
        if not asked or len(self.sizes) < 2:
            return None
        best = max(asked, key=lambda each: each.points[-1].mean)
        before, last = best.points[-2:]
        doublings = max(1.0, math.log2(last.labels_per_class / before.labels_per_class))
        deviation = float(np.std(before.scores, ddof=1)) if len(before.scores) > 1 else 0.0
        error = deviation * math.sqrt(1 / len(before.scores) + 1 / len(last.scores))
        return Rise(best.name, last.labels_per_class, (last.mean - before.mean) / doublings, error / doublings)


def data_efficiency(
    dataset: Dataset,
    sizes: Sequence[int],
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    metric: str = "accuracy",
    trained: Mapping[str, tuple[Kind, Train]] | None = None,
) -> Curve | None:
    """The curve on the test split: for each of `sizes` labels a class that the training split has, and for all of it.

    `features` of the training and the test samples, (N, D) and (M, D), are the source's under `source`, and under
    `random` its architecture's with random weights, which show what the architecture alone is worth. Methods: a ridge
    probe on both and the nearest class means of the first, and support vector machines on pixels and gradients.
    Each is fitted to 3 draws of the labels, the same for all methods, a draw of fewer part of one of more; the point of
    all labels, or of 10 000 where there are more, stands at their mean number. `trained` are further methods by
    name, which train a model on a part of the data set with a seed, once for each draw of each point.

    None where a class has no training sample.
    """
    start = time.perf_counter()
    train, test = dataset.split("train"), dataset.split("test")
    classes = len(dataset.classes)
    if not np.bincount(train.labels, minlength=classes).all():
        return None
    trained = trained or {}
    kept = with_every_class(train.labels, spread_out(train.labels, _MOST))
    labels = train.labels[kept]
    groups = group_numbers(train.groups[kept])
    draws = _draws(labels, groups, [size for size in sizes if size < np.bincount(labels).min()])
    methods = _fitted_methods(dataset, kept, features, metric)
    methods |= {name: (kind, _training(dataset, kept, fit)) for name, (kind, fit) in trained.items()}

    def point(predict: Predict, size: int) -> Point:
        drawn = (predict(subset, seed) for seed, subset in enumerate(draws[size]))
        return Point(size, tuple(score(metric, test.labels, each, classes) for each in drawn))

    series = tuple(
        Series(name, kind, tuple(point(predict, size) for size in draws), trained=name in trained)
        for name, (kind, predict) in methods.items()
    )
    return Curve(metric, series, time.perf_counter() - start, complete=len(kept) == len(train.labels))


def _fitted_methods(
    dataset: Dataset, kept: np.ndarray, features: Mapping[str, tuple[np.ndarray, np.ndarray]], metric: str
) -> dict[str, tuple[Kind, Predict]]:
    """The methods that are fitted to frozen features or descriptors, on some of the training samples at `kept`."""
    from headstart.features.heads import LinearHead, nearest_class_mean, ridge
    from headstart.strategies.baselines.classical import quick_classical

    train, classes = dataset.split("train"), len(dataset.classes)
    labels = train.labels[kept]
    # Predictions alone are judged.
    probe = partial(ridge, calibrated=False)

    def on(name: str, fit: Callable[[np.ndarray, np.ndarray, int], LinearHead]) -> Predict:
        ours, theirs = features[name][0][kept], features[name][1]
        return lambda subset, seed: fit(ours[subset], labels[subset], classes).logits(theirs).argmax(axis=1)

    methods: dict[str, tuple[Kind, Predict]] = {
        "probe on the source": ("transfer", on("source", probe)),
        "class means on the source": ("transfer", on("source", nearest_class_mean)),
        "probe on random weights": ("baseline", on("random", probe)),
    }
    if dataset.kind.has_descriptors:
        read = dataset.kind, dataset.given
        classical = quick_classical(train.samples, *read, classes=classes, metric=metric, rows=kept)
        judged = quick_classical(dataset.split("test").samples, *read, classes=classes)
        methods["classical"] = (
            "baseline",
            lambda subset, seed: classical.predict(subset, labels[subset], judged, seed=seed),
        )
    return methods


def subset_of(dataset: Dataset, positions: np.ndarray, folder: Path) -> Dataset:
    """A data set in `folder` with the training samples at `positions`, rising, and the other splits as they are."""
    folder.mkdir(parents=True)
    index = pq.read_table(dataset.path / "index.parquet")
    rows = np.flatnonzero(pc.equal(index["split"], "train").to_numpy(zero_copy_only=False))
    dropped = np.delete(rows, positions)
    pq.write_table(index.take(pa.array(np.delete(np.arange(len(index)), dropped))), folder / "index.parquet")
    manifest = {**dataset.manifest, "splits": {**dataset.manifest["splits"]}}
    if dataset.is_streamed("train"):
        # They are few: they lie here.
        streamed = dataset.manifest[STREAMED]
        manifest[STREAMED] = {**streamed, "splits": [split for split in streamed["splits"] if split != "train"]}
    train, place = dataset.split("train").samples, folder / Dataset(folder, manifest).samples_file("train")
    if isinstance(train, EncodedSamples | RaggedSamples):
        train.write_rows(positions, place)
    else:
        np.save(place, train[positions])
    for split in SPLITS:
        if split != "train":
            for name in dataset.files_of(split):
                (folder / name).symlink_to((dataset.path / name).absolute())
    digest = f"{dataset.split_digest('train')}[{','.join(map(str, positions.tolist()))}]"
    manifest["splits"]["train"] = {**manifest["splits"]["train"], "samples": len(positions), "digest": digest}
    Dataset(folder, manifest).write_manifest()
    return Dataset.open(folder)


def curve_trainings(
    board: Leaderboard, source: ModelBundle, strategies: Sequence[Mapping[str, Any]], training: Training | None
) -> dict[str, tuple[Kind, Train]]:
    """The chosen strategy and scratch as the curve trains them: with the recipe's budget on a part of the labels.

    `strategies` and `training` are the recipe's.

    Raises:
        InputError: one of the two is missing.
    """
    from headstart.strategies.transfer import transfer

    if training is None or not strategies:
        raise InputError("evaluation.curve_training needs the recipe's training and strategies; give them.")
    sections = [Strategy.of(dict(each), at="strategies") for each in strategies]
    # Of a combination, whose members tie, the first one is the best.
    name, *_ = board.chosen.members or (board.chosen.strategy,)
    strategy = next(each for each in sections if each.name == name)

    def transferred(dataset: Dataset, seed: int) -> ModelBundle:
        context = RunContext(seed, board.metric, refit=False, cross_validate=False)
        return transfer(source, dataset, strategy, training=training, context=context).bundle

    def scratch(dataset: Dataset, seed: int) -> ModelBundle:
        fit = BASELINES[SCRATCH].fit
        return fit(
            Like.of(source), dataset, training, RunContext(seed, board.metric, refit=False, cross_validate=False)
        ).bundle

    return {f"{strategy.name}, trained": ("transfer", transferred), f"{SCRATCH}, trained": ("baseline", scratch)}


def count_trainings(dataset: Dataset, sizes: Sequence[int]) -> int:
    """The number of trainings that a method of `curve_trainings` takes for its points at `sizes` and at all labels."""
    fewest = np.bincount(dataset.split("train").labels, minlength=len(dataset.classes)).min()
    return SEEDS * len({size for size in sizes if size < fewest}) + 1


def _training(dataset: Dataset, kept: np.ndarray, fit: Train) -> Predict:
    def predict(subset: np.ndarray, seed: int) -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix="headstart-") as place:
            bundle = fit(subset_of(dataset, kept[subset], Path(place) / "part"), seed)
        return bundle.predict_logits(dataset.split("test").samples).argmax(axis=1)

    return predict


def _draws(labels: np.ndarray, groups: np.ndarray | None, sizes: Sequence[int]) -> dict[int, list[np.ndarray]]:
    """For each size the positions of as many samples a class, rising, in 3 draws; last all samples, once. Of a group,
    int (N,), one sample is drawn after the other, as its labels would come together."""
    ranks = []
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(labels))
        if groups is not None:
            order = order[np.argsort(generator.permutation(groups.max() + 1)[groups[order]], kind="stable")]
        rank = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            members = order[labels[order] == label]
            rank[members] = np.arange(len(members))
        ranks.append(rank)
    drawn = {size: [np.flatnonzero(rank < size) for rank in ranks] for size in sorted(set(sizes))}
    return {**drawn, round(len(labels) / len(np.unique(labels))): [np.arange(len(labels))]}


def _mean_at(series: Series, size: int) -> float:
    return next(point.mean for point in series.points if point.labels_per_class == size)


def _crossing(series: Series, best: Mapping[int, float]) -> float | None:
    """The labels a class from which on the series is at least as good as `best` at all points, interpolated in their
    logarithm."""
    sizes = sorted(best)
    ahead = [_mean_at(series, size) - best[size] for size in sizes]
    first = len(sizes)
    while first and ahead[first - 1] >= 0:
        first -= 1
    if first == len(sizes):
        return None
    if first == 0:
        return float(sizes[0])
    before, after = ahead[first - 1], ahead[first]
    share = before / (before - after)
    return float(sizes[first - 1] * (sizes[first] / sizes[first - 1]) ** share)
