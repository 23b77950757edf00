"""Source selection: which of several models should this target start from.

A ridge probe on frozen features ranks all candidates, which takes seconds; the two that it puts first are fine-tuned
for a quarter of the epochs (successive halving: Jamieson and Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016), and whichever of the two findings is clearer decides. Other scores are
shown beside the probe; none of them is right everywhere.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.subsets import spread_out
from headstart.errors import InputError
from headstart.features import transferability
from headstart.features.extraction import vectors
from headstart.features.heads import cross_validated_hits
from headstart.jobs.job import train, transfer_job
from headstart.judging.overlap import overlap
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.wilson import wilson_interval
from headstart.models.bundle import ModelBundle
from headstart.models.reference import unpinned
from headstart.models.sources import Background, load_source, published_background
from headstart.storage.state import State
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.progress import Progress
from headstart.training.section import Training

# The candidates that are fine-tuned, and their share of a whole fine-tuning's epochs.
_FINALISTS = 2
_CONFIRMING_SHARE = 0.25
# Training samples that the scores read: with more, a probe's standard error is below .005 anyway, and time and memory
# grow.
_MOST_SAMPLES = 10_000
# Standard errors to the end of an interval of 95 % and of 99 %; and the confidence of one of one to either side.
_Z, _DECISIVE = 1.959964, 2.575829
_ONE_ERROR = 0.6827
_UNTOLD = "a probe tells nothing, as no two classes have two training samples"


@dataclass(frozen=True)
class Ranked:
    """What is known of one candidate; shares are in [0, 1], and None is what is not known or was not done."""

    source: str
    """its pinned reference"""
    architecture: str
    parameters: int
    source_accuracy: float | None
    """on test samples of its own data"""
    overlap: dict[str, int] | None
    """how many of the target's samples, by split, it or a source of it was trained on"""
    overlap_complete: bool
    """False where that is the least, as what a source of it was trained on is not known"""
    look_alikes: int | None
    """how many further test samples of the target look like one that it was trained on"""
    leaks: bool
    """whether it knows, or may know, test samples of the target"""
    probe: float | None
    """accuracy of a ridge probe on frozen features, cross-validated on the training split; None where no two classes
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
    logme: float
    h_score: float
    leep: float | None
    """None where the source has no head"""
    nleep: float
    costs: dict[str, float] = field(default_factory=dict)
    """seconds of each score, by name"""
    confirmed: float | None = None
    """the metric on the validation split after a short fine-tuning"""
    confirmed_error: float | None = None
    """its standard error"""
    chosen: bool = False

    @property
    def seconds(self) -> float:
        """What all of it took."""
        return sum(self.costs.values())

    @property
    def name(self) -> str:
        """What people call it."""
        return unpinned(self.source)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "seconds": self.seconds}


# The file that holds a selection's table.
RANKING = "ranking.json"


@dataclass(frozen=True)
class Selection:
    """The chosen source, the ranking by the probe, best first, why it was chosen, and what to be wary of."""

    bundle: ModelBundle
    ranking: tuple[Ranked, ...]
    reason: str
    warnings: tuple[str, ...]

    @property
    def chosen(self) -> Ranked:
        """The chosen source's place in the ranking, which need not be the first."""
        return next(ranked for ranked in self.ranking if ranked.chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the bundle: `source`, `reason`, `warnings`, `seconds` and `ranking`."""
        return {
            "source": self.chosen.source,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "seconds": sum(ranked.seconds for ranked in self.ranking),
            "ranking": [ranked.to_dict() for ranked in self.ranking],
        }


def select_source(
    candidates: Sequence[str],
    dataset: Dataset,
    *,
    training: Training | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    state: State | None = None,
    fetch_registered: Callable[[str], Path] | None = None,
    background: Callable[[str], Background] = published_background,
    progress: Progress | None = None,
) -> Selection:
    """Ranks pinned candidates by a probe of their frozen features, and has the two best confirmed by fine-tuning.

    The scores read the training split only, 10 000 samples of it at most, and the fine-tunings choose on the validation
    split; no test sample is read but to see whether a candidate was trained on it. Of equal probes, what was trained on
    fewer of the target's samples comes first, then the smaller network, then what was given first. The probe's first is
    chosen unless the second's fine-tuning leads by more standard errors of the difference than its probe trails, or by
    the 2.6 that 99 % confidence asks for: a probe may err by more than chance. Of two that differ by less than what
    95 % asks for, one that knows test samples of the target gives way to one that does not: its accuracy there would
    mean nothing.

    The features are kept in `state`, by default where the environment says, and serve the strategies that start from
    the chosen source; the fine-tunings are jobs, which go on from their checkpoints there.

    Args:
        training: settings of the confirming fine-tunings, which get a quarter of its epochs; None leaves the choice to
            the probe.
        metric: what they are judged by.
        fetch_registered: as for `load_source`.
        background: what is known of a candidate beside its content.

    Raises:
        InputError: there is no candidate, or one cannot be loaded; it is named.
    """
    if not candidates:
        raise InputError("There is no source to choose from; give source.data or source.candidates.")
    contest = _Contest(dataset, metric, seed, state or State.from_environment(), fetch_registered, background, progress)
    scored: list[_Scored] = []
    offered = tuple(dict.fromkeys(candidates))
    for index, uri in enumerate(offered):
        scored.append(contest.score(uri, index, len(offered)))
        scored.sort(key=_place)
        # Only the best so far stay in memory: candidates may be large and many.
        contest.keep([each.ranked.source for each in scored[:_FINALISTS]])
    finalists = _finalists(scored)
    if training is not None and len(finalists) > 1:
        finalists = [contest.confirm(each, training) for each in finalists]
    chosen, reason = contest.choose(finalists)
    final = {each.ranked.source: each.ranked for each in [*scored, *finalists]}
    final[chosen.ranked.source] = replace(chosen.ranked, chosen=True)
    ranking = tuple(final[each.ranked.source] for each in scored)
    return Selection(contest.load(chosen.ranked.source), ranking, reason, tuple(_warnings(ranking)))


@dataclass(frozen=True, eq=False)
class _Scored:
    """A candidate with what it was right about: `hits` (M,) of the probe on training samples, and `predictions` (N,)
    for the validation split after its fine-tuning."""

    ranked: Ranked
    hits: np.ndarray
    predictions: np.ndarray | None = None


class _Contest:
    """Scores and fine-tunes the candidates of one choice."""

    def __init__(
        self,
        dataset: Dataset,
        metric: str,
        seed: int,
        state: State | None,
        fetch_registered: Callable[[str], Path] | None,
        background: Callable[[str], Background],
        progress: Progress | None,
    ) -> None:
        self._dataset, self._metric, self._seed, self._state = dataset, metric, seed, state
        self._fetch, self._background, self._progress = fetch_registered, background, progress
        self._train = dataset.split("train")
        self._read = _some(self._train.labels, seed)
        self._loaded: dict[str, ModelBundle] = {}

    def load(self, uri: str) -> ModelBundle:
        if uri not in self._loaded:
            self._loaded[uri] = load_source(uri, modality=self._dataset.modality, fetch_registered=self._fetch)
        return self._loaded[uri]

    def keep(self, uris: Sequence[str]) -> None:
        """Lets go of all other candidates that were loaded."""
        self._loaded = {uri: bundle for uri, bundle in self._loaded.items() if uri in uris}

    def score(self, uri: str, index: int, count: int) -> _Scored:
        """All that frozen features and the record tell about a candidate."""
        labels, costs = self._train.labels[self._read], dict[str, float]()
        with _timed(costs, "load"):
            bundle = self.load(uri)
        with _timed(costs, "background"):
            known = self._background(uri)
            seen = overlap(bundle, known, self._dataset)
        with _timed(costs, "features"):
            features = vectors(bundle, self._train, self._state)[self._read]
        with _timed(costs, "probe"):
            hits = cross_validated_hits(features, labels, seed=self._seed)
        with _timed(costs, "knn"):
            neighbours = transferability.neighbour_hits(features, labels)
        with _timed(costs, "logme"):
            logme = transferability.logme(features, labels)
        with _timed(costs, "h_score"):
            h_score = transferability.h_score(features, labels)
        with _timed(costs, "leep"):
            said = _source_probabilities(bundle, features)
            leep = None if said is None else transferability.leep(said, labels)
        with _timed(costs, "nleep"):
            nleep = transferability.nleep(features, labels, seed=self._seed)
        probe, probe_error, probe_low, probe_high = _share(hits)
        knn, knn_error, knn_low, knn_high = _share(neighbours)
        if self._progress:
            self._progress("probing sources", index + 1, count, f"{bundle.architecture} {_shown(probe)}")
        ranked = Ranked(
            source=uri,
            architecture=bundle.architecture,
            parameters=sum(p.numel() for p in bundle.network.parameters()),
            source_accuracy=known.accuracy,
            overlap=seen.samples,
            overlap_complete=seen.complete,
            look_alikes=seen.look_alikes,
            leaks=seen.leaks,
            probe=probe,
            probe_error=probe_error,
            probe_low=probe_low,
            probe_high=probe_high,
            knn=knn,
            knn_error=knn_error,
            knn_low=knn_low,
            knn_high=knn_high,
            logme=logme,
            h_score=h_score,
            leep=leep,
            nleep=nleep,
            costs=costs,
        )
        return _Scored(ranked, hits)

    def confirm(self, scored: _Scored, training: Training) -> _Scored:
        """The candidate after a fine-tuning with a quarter of the epochs, as a job like any other training."""
        costs = dict(scored.ranked.costs)
        val, classes = self._dataset.split("val"), len(self._dataset.classes)
        whole = make_plan(training, self._train.labels, pretrained=True).epochs
        short = training.model_copy(update={"epochs": math.ceil(_CONFIRMING_SHARE * whole)})
        # The starts of `auto` were compared after whole trainings, not after a quarter of the epochs.
        strategy = Strategy.of({"name": "confirm", "transfer": "full", "schedule": "lp_ft"}, at="strategies")
        with _timed(costs, "confirm"), tempfile.TemporaryDirectory(prefix="headstart-") as place:
            source = Path(place) / "source"
            digest = self.load(scored.ranked.source).save(source)
            job = transfer_job(
                source,
                self._dataset.path,
                strategy,
                training=short,
                reference=scored.ranked.source,
                digest=digest,
            )
            trained = train(job, RunContext(self._seed, self._metric, progress=self._progress))
            predictions = trained.bundle.predict_logits(val.samples).argmax(axis=1)
        found = bootstrap_interval(
            self._metric, val.labels, predictions, classes, confidence=_ONE_ERROR, seed=self._seed
        )
        ranked = replace(
            scored.ranked, costs=costs, confirmed=found.value, confirmed_error=(found.high - found.low) / 2
        )
        return _Scored(ranked, scored.hits, predictions)

    def choose(self, finalists: Sequence[_Scored]) -> tuple[_Scored, str]:
        """The finalist that is chosen, of one or two in the probe's order, and why in a sentence."""
        first = finalists[0]
        if len(finalists) == 1:
            return first, f"{first.ranked.name} is the only candidate; {_probe_of(first.ranked)}."
        second = finalists[1]
        probes = f"({_shown(first.ranked.probe)} against {_shown(second.ranked.probe)} of {second.ranked.name})"
        if _merit(first.ranked) > _merit(second.ranked):
            leads = f"{first.ranked.name} leads by the probe {probes}"
        else:
            rule = "was named first"
            if _seen(first.ranked) < _seen(second.ranked):
                rule = "was trained on fewer of the target's samples"
            elif first.ranked.parameters < second.ranked.parameters:
                rule = "is smaller"
            alike = f"that probe alike {probes}" if first.ranked.probe is not None else f"of which {_UNTOLD}"
            leads = f"{first.ranked.name} {rule}, of two {alike}"
        chosen, other = first, second
        if first.predictions is None or second.predictions is None:
            reason = f"{leads}; neither was fine-tuned."
        else:
            validated = f"on validation ({first.ranked.confirmed:.3f} against {second.ranked.confirmed:.3f})"
            favour = -self._tuned_lead(first, second)
            if favour > min(_probe_lead(first, second), _DECISIVE):
                chosen, other = second, first
                reason = f"{leads}, but short fine-tunings speak more clearly for {second.ranked.name} {validated}."
            elif favour > 1:
                reason = f"{leads}, more clearly than short fine-tunings speak for the other {validated}."
            else:
                finding = "confirm it" if favour < -1 else "do not tell the two apart"
                reason = f"{leads}, and short fine-tunings {finding} {validated}."
        if chosen.ranked.leaks and not other.ranked.leaks and not self._better(chosen, other):
            return other, (
                f"{other.ranked.name} is chosen because it knows no test samples of the target and is not told apart "
                f"from {chosen.ranked.name}, which does."
            )
        return chosen, reason

    def _better(self, one: _Scored, other: _Scored) -> bool:
        """Whether the one's fine-tuning, without one its probe, is better with 95 % confidence."""
        tuned = one.predictions is not None and other.predictions is not None
        return (self._tuned_lead(one, other) if tuned else _probe_lead(one, other)) > _Z

    def _tuned_lead(self, one: _Scored, other: _Scored) -> float:
        """By how many standard errors of the difference the one's fine-tuning is better on the validation samples."""
        val, classes = self._dataset.split("val"), len(self._dataset.classes)
        assert one.predictions is not None and other.predictions is not None  # noqa: S101, PT018 (both are fine-tuned)
        gain = paired_bootstrap_gain(
            self._metric,
            val.labels,
            one.predictions,
            other.predictions,
            classes,
            confidence=_ONE_ERROR,
            seed=self._seed,
        )
        return _in_errors(gain.value, (gain.high - gain.low) / 2)


def _place(scored: _Scored) -> tuple[float, int, int]:
    """Sorts by the probe; of equals, what knows fewer of the target's samples comes first, and then what is smaller."""
    ranked = scored.ranked
    return -_merit(ranked), _seen(ranked), ranked.parameters


def _merit(ranked: Ranked) -> float:
    """The probe, or the same for all where it tells nothing: which it does of all candidates or of none."""
    return ranked.probe or 0.0


def _probe_of(ranked: Ranked) -> str:
    if ranked.probe is None:
        return _UNTOLD
    return f"a probe of its features reaches {ranked.probe:.3f} [{ranked.probe_low:.3f}, {ranked.probe_high:.3f}]"


def _shown(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


def _seen(ranked: Ranked) -> int:
    return sum((ranked.overlap or {}).values())


def _finalists(scored: Sequence[_Scored]) -> list[_Scored]:
    """The first two in the probe's order; where both know test samples, the second is the best that does not, if there
    is one that the probe does not tell from the first."""
    finalists = list(scored[:_FINALISTS])
    if all(each.ranked.leaks for each in finalists):
        clean = (each for each in scored if not each.ranked.leaks and _probe_lead(scored[0], each) <= _Z)
        finalists[1:] = [*clean, *finalists[1:]][:1]
    return finalists


def _probe_lead(one: _Scored, other: _Scored) -> float:
    """By how many standard errors of the difference the one's probe is better on the same training samples."""
    if len(one.hits) == 0:
        return 0.0
    difference = one.hits.astype(np.float64) - other.hits
    return _in_errors(float(difference.mean()), float(difference.std()) / math.sqrt(len(difference)))


def _in_errors(difference: float, error: float) -> float:
    return difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0


def _warnings(ranking: Sequence[Ranked]) -> Iterator[str]:
    for ranked in ranking:
        seen = ranked.overlap or dict.fromkeys(SPLITS, 0)
        if seen["test"]:
            yield (
                f"{ranked.name} was trained on {seen['test']:,} of the target's test samples, so what it reaches there "
                "says little about new ones."
            )
        elif ranked.look_alikes:
            yield (
                f"{ranked.name} was trained on pictures that look the same as {ranked.look_alikes:,} of the target's "
                "test samples, so what it reaches there says little about new ones."
            )
        elif ranked.leaks:
            yield (
                f"{ranked.name} was trained on another split of the target's data and may know its test samples, so "
                "what it reaches there says little about new ones."
            )
        elif seen["train"] or seen["val"]:
            yield (
                f"{ranked.name} was trained on {seen['train'] + seen['val']:,} of the target's training and validation "
                "samples, so its scores here flatter it."
            )


def _source_probabilities(bundle: ModelBundle, features: np.ndarray) -> np.ndarray | None:
    """What the source's own head says of the samples, (N, Z); None where it has none that was trained."""
    from scipy.special import softmax

    if not bundle.classes or bundle.provenance.get("head") != "trained":
        return None
    weight, bias = (
        tensor.detach().float().cpu().numpy() for tensor in (bundle.network.head.weight, bundle.network.head.bias)
    )
    said: np.ndarray = softmax((features @ weight.T + bias) / bundle.temperature, axis=1)
    return said


def _some(labels: np.ndarray, seed: int) -> np.ndarray:
    """The positions of at most 10 000 samples, sorted, of every class the same share; `seed` draws them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[spread_out(labels[order], _MOST_SAMPLES)])


def _share(hits: np.ndarray) -> tuple[float, float, float, float] | tuple[None, None, None, None]:
    """The share of hits, its standard error, and its 95 % interval (Wilson 1927); None of them where nothing was
    asked."""
    if len(hits) == 0:
        return None, None, None, None
    found = wilson_interval(int(hits.sum()), len(hits))
    return found.value, math.sqrt(found.value * (1 - found.value) / len(hits)), found.low, found.high


@contextmanager
def _timed(costs: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of the block to `costs`."""
    start = time.perf_counter()
    yield
    costs[name] = costs.get(name, 0.0) + time.perf_counter() - start
