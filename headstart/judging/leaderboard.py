"""Which strategy won, by how much, and whether transfer helped.

The winner is chosen on the validation metric alone. The test split is only reported, so the winner's interval is not
flattered by the choice (Cawley and Talbot 2010, "On Over-fitting in Model Selection"). All gains that a leaderboard
shows, those of the strategies over scratch and those of the winner over the other baselines, have intervals that hold
at once: none is a verdict only because there are many of them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from headstart.errors import HeadstartError, InputError
from headstart.metrics.classification import check_predictions
from headstart.metrics.classification import score as metric_score
from headstart.metrics.counts import count
from headstart.metrics.intervals import (
    Interval,
    Verdict,
    bootstrap_interval,
    holm,
    mcnemar_p,
    simultaneous_gains,
    verdict,
)
from headstart.metrics.metric import metric_title
from headstart.metrics.scores.accuracy import accuracy
from headstart.metrics.scores.macro_f1 import macro_f1

Kind = Literal["transfer", "baseline"]

SCRATCH = "scratch"
# Two evaluations of the same weights may give probabilities that differ by rounding; other weights give others.
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class Candidate:
    """One trained strategy or baseline with what it predicts on the test split."""

    strategy: str
    kind: Kind
    source: str | None
    """reference of the source model; None for a baseline"""
    ids: np.ndarray
    """(N,) ids of the test samples"""
    labels: np.ndarray
    """int (N,) in [0, K)"""
    probabilities: np.ndarray
    """(N, K)"""
    validation: float
    """the metric on the validation split"""
    seconds: float
    """training time"""
    run_id: str | None = None

    @property
    def predictions(self) -> np.ndarray:
        """int (N,), the most probable class of each item."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard. `low` and `high` bound `value` on the test split; gains are over scratch."""

    strategy: str
    kind: Kind
    source: str | None
    metric: str
    value: float
    low: float
    high: float
    accuracy: float
    macro_f1: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    verdict: Verdict | None
    """None for a baseline and where there is no scratch to compare with"""
    validation: float
    seconds: float
    chosen: bool
    run_id: str | None
    same_as: str | None = None
    """the transfer strategy that predicts the same, as where both kept the weights that they started from"""


@dataclass(frozen=True)
class Comparison:
    """The chosen strategy against one baseline, on the same test items."""

    baseline: str
    gain: Interval
    verdict: Verdict
    p: float
    """of McNemar's test that both are equally accurate, Holm-corrected over the baselines"""


@dataclass(frozen=True)
class Leaderboard:
    """All candidates on one test split, best first."""

    metric: str
    confidence: float
    min_gain: float
    resamples: int
    seed: int
    items: int
    """size of the test split"""
    entries: tuple[Entry, ...]
    comparisons: tuple[Comparison, ...]
    seed_deviation: float | None = None
    """the standard deviation of scratch's metric over trainings with other seeds, which the gains' intervals include;
    None where it was trained once"""

    @property
    def chosen(self) -> Entry:
        """The transfer strategy with the best validation metric."""
        return next(entry for entry in self.entries if entry.chosen)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the chosen strategy helped over scratch; None without a scratch baseline."""
        return self.chosen.verdict

    @property
    def gains_count(self) -> int:
        """How many gains have intervals that hold at once; of strategies that predict the same, one counts."""
        return sum(entry.gain is not None and entry.same_as is None for entry in self.entries) + sum(
            each.baseline != SCRATCH for each in self.comparisons
        )

    @property
    def unbeaten(self) -> list[str]:
        """The baselines besides scratch that the chosen strategy is not shown to be better than."""
        return [each.baseline for each in self.comparisons if each.baseline != SCRATCH and each.verdict != "helped"]

    @property
    def sentence(self) -> str:
        """The verdict and the figures behind it."""
        return f"{self.verdict or 'unknown'}: {self.explanation}"

    @property
    def explanation(self) -> str:
        """The figures behind the verdict, in one sentence."""
        over_scratch = next((each for each in self.comparisons if each.baseline == SCRATCH), None)
        others = [each for each in self.comparisons if each is not over_scratch]
        name = metric_title(self.metric)
        if over_scratch is None:
            answer = (
                f"{self.chosen.strategy} reaches {self.chosen.value:.3f} {name}, and without the baseline "
                f"{SCRATCH} there is nothing to measure the transfer against"
            )
        else:
            answer = (
                f"{self.chosen.strategy} {_gains(over_scratch.gain, name)} {SCRATCH} {_bounds(over_scratch.gain)} "
                f"at {100 * self.confidence:g}% confidence on {self.items:,} test items"
            )
            if over_scratch.verdict == "no evidence" and self.min_gain > 0:
                answer += f", where more than {self.min_gain:+.3f} was asked for"
        return "; ".join([answer, *(_clause(each) for each in others)]) + "."

    def rows(self) -> list[dict[str, Any]]:
        """The lines as the command line prints them; the metric and its bounds go by the metric's own name."""
        return [
            {
                "strategy": entry.strategy,
                "source": entry.source,
                self.metric: entry.value,
                f"{self.metric}_low": entry.low,
                f"{self.metric}_high": entry.high,
                "macro_f1": entry.macro_f1,
                "gain": entry.gain,
                "gain_low": entry.gain_low,
                "gain_high": entry.gain_high,
                "seconds": entry.seconds,
                "run_id": entry.run_id,
                "same_as": entry.same_as,
            }
            for entry in self.entries
        ]

    def to_json(self) -> str:
        """Indented JSON that `from_json` reads back to an equal leaderboard."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Leaderboard":
        """What `to_json` wrote; InputError if it is something else."""
        try:
            content = json.loads(text)
            content["entries"] = tuple(Entry(**entry) for entry in content["entries"])
            content["comparisons"] = tuple(
                Comparison(each["baseline"], Interval(**each["gain"]), each["verdict"], each["p"])
                for each in content["comparisons"]
            )
            return cls(**content)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"This is not a leaderboard of headstart ({error}); evaluate again.") from error


def build_leaderboard(
    candidates: Sequence[Candidate],
    *,
    metric: str = "accuracy",
    confidence: float = 0.95,
    min_gain: float = 0.0,
    resamples: int = 2000,
    seed: int = 0,
    retrained: Sequence[np.ndarray] = (),
) -> Leaderboard:
    """Scores every candidate on the test split and chooses the transfer strategy with the best validation metric.

    `retrained` are predictions int (N,) of scratch trained with other seeds. The variance of the metric over all of its
    trainings is taken for that of every strategy's, so that a gain over scratch has twice as much beside that of the
    test items, and one over another baseline once; estimated from few trainings, it is rough.

    Ties go to the earlier candidate. Gains are over the baseline named "scratch" where there is one. HeadstartError
    if the candidates were not all tested on the same items in the same order, if two share a name, if a validation
    metric is not a number, or if no transfer strategy is among them.
    """
    _check(candidates)
    labels = candidates[0].labels
    classes_count = candidates[0].probabilities.shape[1]
    baselines = [each for each in candidates if each.kind == "baseline"]
    scratch = next((each for each in baselines if each.strategy == SCRATCH), None)
    chosen = max((each for each in candidates if each.kind == "transfer"), key=lambda each: each.validation)

    position = {id(each): index for index, each in enumerate(candidates)}
    over_scratch = [(each, scratch) for each in candidates if scratch and each.kind == "transfer"]
    over_others = [(chosen, each) for each in baselines if each is not scratch]
    pairs = [(position[id(ours)], position[id(theirs)]) for ours, theirs in (*over_scratch, *over_others) if theirs]
    deviation = None
    if scratch and len(retrained):
        trainings = [scratch.predictions, *retrained]
        deviation = float(np.std([metric_score(metric, labels, each, classes_count) for each in trainings], ddof=1))
    times = [2] * sum(theirs is not None for _, theirs in over_scratch) + [1] * len(over_others)
    intervals = simultaneous_gains(
        metric,
        labels,
        [each.predictions for each in candidates],
        pairs,
        classes_count,
        variances=[each * (deviation or 0.0) ** 2 for each in times],
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    gains = dict(zip(pairs, intervals, strict=True))
    twins = _twins(candidates, chosen)

    def score(candidate: Candidate) -> Entry:
        value = bootstrap_interval(
            metric,
            labels,
            candidate.predictions,
            classes_count,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        counts = count(labels, candidate.predictions, classes_count)
        gain = gains.get((position[id(candidate)], position[id(scratch)])) if scratch else None
        return Entry(
            strategy=candidate.strategy,
            kind=candidate.kind,
            source=candidate.source,
            metric=metric,
            value=value.value,
            low=value.low,
            high=value.high,
            accuracy=float(accuracy(counts)),
            macro_f1=float(macro_f1(counts)),
            gain=gain.value if gain else None,
            gain_low=gain.low if gain else None,
            gain_high=gain.high if gain else None,
            verdict=verdict(gain, min_gain) if gain else None,
            validation=float(candidate.validation),
            seconds=float(candidate.seconds),
            chosen=candidate is chosen,
            run_id=candidate.run_id,
            same_as=twins.get(candidate.strategy),
        )

    entries = sorted((score(each) for each in candidates), key=lambda entry: (-entry.value, entry.strategy))
    chances = holm([mcnemar_p(labels, chosen.predictions, each.predictions) for each in baselines])
    won = [gains[position[id(chosen)], position[id(each)]] for each in baselines]
    comparisons = tuple(
        Comparison(each.strategy, gain, verdict(gain, min_gain), p)
        for each, gain, p in zip(baselines, won, chances, strict=True)
    )
    return Leaderboard(
        metric, confidence, min_gain, resamples, seed, len(labels), tuple(entries), comparisons, deviation
    )


def _check(candidates: Sequence[Candidate]) -> None:
    if not any(each.kind == "transfer" for each in candidates):
        raise HeadstartError("No transfer strategy was evaluated; give the recipe at least one under `strategies`.")
    first = candidates[0]
    names = set[str]()
    for each in candidates:
        if each.strategy in names:
            raise HeadstartError(f"Two candidates are called {each.strategy!r}; give every strategy its own name.")
        names.add(each.strategy)
        try:
            check_predictions(each.labels, each.probabilities, first.probabilities.shape[-1])
        except HeadstartError as error:
            raise HeadstartError(f"The predictions of {each.strategy!r} are not usable. {error}") from error
        if not (np.array_equal(each.ids, first.ids) and np.array_equal(each.labels, first.labels)):
            raise HeadstartError(
                f"{each.strategy!r} and {first.strategy!r} were tested on different samples, or in another order; "
                "evaluate every strategy on the same packed data set."
            )
        if not math.isfinite(each.validation):
            raise HeadstartError(
                f"The validation metric of {each.strategy!r} is {each.validation}, so nothing can be chosen by it; "
                "see whether its training diverged."
            )


def _twins(candidates: Sequence[Candidate], chosen: Candidate) -> dict[str, str]:
    """The transfer strategies that give every test item the probabilities that another gives it, and by their name the
    other: the chosen one, or the first."""
    transfers = [each for each in candidates if each.kind == "transfer"]
    models: list[Candidate] = []
    twins = {}
    for each in sorted(transfers, key=lambda each: each is not chosen):
        same = (model for model in models if np.allclose(model.probabilities, each.probabilities, rtol=0, atol=_ALIKE))
        if twin := next(same, None):
            twins[each.strategy] = twin.strategy
        else:
            models.append(each)
    return twins


def _gains(gain: Interval, name: str) -> str:
    if gain.value < 0:
        return f"loses {-gain.value:.3f} {name} against"
    return f"gains {gain.value:+.3f} {name} over"


def _bounds(gain: Interval) -> str:
    return f"[{gain.low:+.3f}, {gain.high:+.3f}]"


def _clause(comparison: Comparison) -> str:
    relation = {
        "helped": "it beats",
        "no evidence": "it is not clearly better than",
        "hurt": "it is worse than",
    }[comparison.verdict]
    gain = comparison.gain
    return f"{relation} the baseline {comparison.baseline} ({gain.value:+.3f} {_bounds(gain)})"
