"""Ranking of candidate sources by scores of their frozen features on the target's training samples."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.folds import in_repeated_classes
from headstart.data.strata import strata
from headstart.data.subsets import spread_out
from headstart.features.extraction import vectors
from headstart.features.heads import cross_validated_hits
from headstart.features.neighbours import neighbour_hits
from headstart.features.score import SCORES, Probed
from headstart.judging.overlap import overlap
from headstart.metrics.groups import effective_items, group_numbers, groups_at, mean_interval
from headstart.metrics.intervals import Interval
from headstart.metrics.task import SINGLE_LABEL
from headstart.metrics.wilson import share_interval
from headstart.models.bundle import ModelBundle
from headstart.models.reference import unpinned
from headstart.models.sources import Background, load_source
from headstart.models.tracing import is_recorded
from headstart.models.widening import for_samples
from headstart.storage.state import State

# Training samples that the scores read: with more, a probe's standard error is below .005 anyway, and time and memory
# grow.
_MOST_SAMPLES = 10_000
# The confidence of an interval of one standard error to either side.
ONE_ERROR = 0.6827


@dataclass(frozen=True)
class Ranked:
    """One candidate's row of the ranking. Shares are in [0, 1]; None stands for what is unknown or was not measured."""

    source: str
    """its pinned reference"""
    architecture: str
    parameters: int
    source_accuracy: float | None
    """on test samples of its own data"""
    overlap: dict[str, int] | None
    """how many of the target's samples, by split, it or a source of it was trained on"""
    overlap_complete: bool
    """False if `overlap` is a lower bound, because the training data of a source of it are unknown"""
    look_alikes: int | None
    """how many further test samples of the target look like one that it was trained on"""
    leaks: bool
    """whether it was, or may have been, trained on test samples of the target"""
    probe: float | None
    """accuracy of a ridge probe on frozen features, cross-validated on the training split, for numbers of the range
    that each lies in (headstart/data/strata.py); None where no two classes
    have two samples there"""
    probe_error: float | None
    """its standard error"""
    probe_low: float | None
    probe_high: float | None
    knn: float | None
    """accuracy of the five nearest neighbours, leave-one-out; None as for the probe"""
    knn_error: float | None
    knn_low: float | None
    knn_high: float | None
    scores: dict[str, float | None]
    """transferability scores by their names in the registry `SCORES`; None where one does not apply"""
    costs: dict[str, float] = field(default_factory=dict)
    """seconds of each score, by name"""
    confirmed: float | None = None
    """the metric on the validation split after a short fine-tuning"""
    confirmed_error: float | None = None
    """its standard error"""
    chosen: bool = False

    @property
    def seconds(self) -> float:
        """The sum of `costs`."""
        return sum(self.costs.values())

    @property
    def name(self) -> str:
        """The reference without its pin."""
        return unpinned(self.source)

    @property
    def seen(self) -> int:
        """How many of the target's samples it is known to have been trained on."""
        return sum((self.overlap or {}).values())

    def to_dict(self) -> dict[str, Any]:
        """JSON values, each score under its own name."""
        values = asdict(self)
        return {**values, **values.pop("scores"), "seconds": self.seconds}


@dataclass(frozen=True, eq=False)
class Scored:
    """A candidate with its correct answers: `hits` (M,) of the probe on training samples, and `predictions` (N,) on the
    validation split after its fine-tuning."""

    ranked: Ranked
    hits: np.ndarray
    predictions: np.ndarray | None = None
    groups: np.ndarray | None = None
    """of the samples with hits, int (M,); None where every sample is alone"""


class Candidates:
    """Loads and scores the candidates for one target."""

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        fetch_registered: Callable[[str], Path] | None,
        background: Callable[[str], Background],
    ) -> None:
        self._dataset, self._seed, self._state = dataset, seed, State.from_environment()
        self._fetch, self._background = fetch_registered, background
        self._train = dataset.split("train")
        # A ranking of sources needs to know which features tell more from less: of numbers, their ranges.
        self._labels = strata(self._train.labels)
        self._read = _subset(self._labels, seed)
        self._loaded: tuple[str, ModelBundle] | None = None

    def load(self, uri: str) -> ModelBundle:
        """A candidate, in place of the one before: they may be large and many, and one is in memory at a time."""
        if self._loaded is None or self._loaded[0] != uri:
            remains = self._loaded is not None and is_recorded(self._loaded[1].network)
            self._loaded = None
            if remains:
                gc.collect()
            bundle = load_source(uri, modality=self._dataset.modality, fetch_registered=self._fetch)
            # As a transfer reads them, so that it finds the features.
            self._loaded = uri, for_samples(bundle, self._dataset.given)
        return self._loaded[1]

    def score(self, uri: str) -> Scored:
        """A candidate's row of the ranking, with every score of the registry."""
        labels, costs = self._labels[self._read], dict[str, float]()
        groups = group_numbers(self._train.groups[self._read])
        with timed(costs, "load"):
            bundle = self.load(uri)
        with timed(costs, "background"):
            known = self._background(uri)
            seen = overlap(bundle, known, self._dataset)
        with timed(costs, "features"):
            features = vectors(bundle, self._train, self._state)[self._read]
        with timed(costs, "probe"):
            hits = cross_validated_hits(features, labels, seed=self._seed, groups=groups)
        with timed(costs, "knn"):
            neighbours = neighbour_hits(features, labels, groups=groups)
        with timed(costs, "leep"):
            probed = Probed(features, labels, _source_probabilities(bundle, features), self._seed)
        scores = {}
        for name, score in SCORES.items():
            with timed(costs, name):
                scores[name] = score.of(probed)
        ranked = Ranked(
            source=uri,
            architecture=bundle.architecture,
            parameters=sum(p.numel() for p in bundle.network.parameters()),
            source_accuracy=known.accuracy,
            overlap=seen.samples,
            overlap_complete=seen.complete,
            look_alikes=seen.look_alikes,
            leaks=seen.leaks,
            **_share("probe", hits.right, groups_at(groups, hits.held_out)),
            **_share("knn", neighbours, groups_at(groups, in_repeated_classes(labels, groups))),
            scores=scores,
            costs=costs,
        )
        return Scored(ranked, hits.right, groups=group_numbers(groups_at(groups, hits.held_out)))


def rank_order(scored: Scored) -> tuple[float, int, int]:
    """Sorts by the probe; on equal probes by the fewest samples of the target that it has seen, then by size."""
    ranked = scored.ranked
    # Without a probe all candidates are equal: it is missing for all of them or for none.
    return -(ranked.probe or 0.0), ranked.seen, ranked.parameters


class Lead(NamedTuple):
    """How much one candidate is better than another, with its standard error."""

    value: float
    error: float

    @property
    def errors(self) -> float:
        """The value in units of its standard error; infinite, or 0, if that is 0."""
        if self.error > 0:
            return self.value / self.error
        return math.copysign(math.inf, self.value) if self.value else 0.0

    @classmethod
    def of(cls, interval: Interval) -> "Lead":
        """The lead with this interval at the confidence `ONE_ERROR`."""
        return cls(interval.value, (interval.high - interval.low) / 2)

    def __str__(self) -> str:
        return f"{self.value:+.3f} ± {self.error:.3f}"


def probe_lead(one: Scored, other: Scored) -> Lead:
    """How much the probe of `one` is better on the same training samples."""
    if len(one.hits) == 0:
        return Lead(0.0, 0.0)
    difference = one.hits.astype(np.float64) - other.hits
    if one.groups is None:
        return Lead(float(difference.mean()), float(difference.std()) / math.sqrt(len(difference)))
    return Lead.of(mean_interval(difference, one.groups, confidence=ONE_ERROR))


@contextmanager
def timed(costs: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of the block to `costs`."""
    start = time.perf_counter()
    yield
    costs[name] = costs.get(name, 0.0) + time.perf_counter() - start


def _source_probabilities(bundle: ModelBundle, features: np.ndarray) -> np.ndarray | None:
    """The predictions (N, Z) of the source's own head; None where it has none that was trained."""
    from scipy.special import softmax

    if bundle.task != SINGLE_LABEL or not bundle.classes or bundle.provenance.get("head") != "trained":
        return None
    weight, bias = (
        tensor.detach().float().cpu().numpy() for tensor in (bundle.network.head.weight, bundle.network.head.bias)
    )
    probabilities: np.ndarray = softmax((features @ weight.T + bias) / bundle.temperature, axis=1)
    return probabilities


def _subset(labels: np.ndarray, seed: int) -> np.ndarray:
    """The positions of at most 10 000 samples, sorted, the same share of every class; `seed` draws them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[spread_out(labels[order], _MOST_SAMPLES)])


def _share(name: str, hits: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """The share of hits, its standard error and its 95 % interval (Wilson 1927), as fields of `Ranked`; None without
    hits."""
    keys = (name, f"{name}_error", f"{name}_low", f"{name}_high")
    if len(hits) == 0:
        return dict.fromkeys(keys)
    found = share_interval(hits, groups)
    items = effective_items(hits, groups, confidence=0.95)
    error = math.sqrt(found.value * (1 - found.value) / items) if items else 0.5
    return dict(zip(keys, (found.value, error, found.low, found.high), strict=True))
