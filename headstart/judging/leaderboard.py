"""The leaderboard: every contender's figures on the test split, best first, and the gains between them.

All gains that it shows, those of the strategies over scratch and those of the winner over the other baselines, have
intervals that hold at once: none is a verdict only because there are many of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.errors import HeadstartError, InputError
from headstart.judging.choice import choose
from headstart.judging.contenders import SCRATCH, Candidate, Contender, Kind
from headstart.judging.section import Evaluation
from headstart.judging.verdict import Comparison, Verdict, verdict
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.classification import check_predictions, score
from headstart.metrics.gains import Pair, simultaneous_gains
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import metric_title
from headstart.metrics.significance import holm, mcnemar_p

# Two evaluations of the same weights may give probabilities that differ by rounding; other weights give others.
_ALIKE = 1e-6


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
class Leaderboard:
    """All contenders on one test split, best first."""

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
    def scratch(self) -> Entry | None:
        """The entry of the baseline scratch."""
        return next((entry for entry in self.entries if entry.strategy == SCRATCH), None)

    @property
    def over_scratch(self) -> Comparison | None:
        """The chosen strategy against the baseline scratch."""
        return next((each for each in self.comparisons if each.baseline == SCRATCH), None)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the chosen strategy helped over scratch; None without a scratch baseline."""
        return self.chosen.verdict

    @property
    def gains_count(self) -> int:
        """The number of gains whose intervals hold at once; of strategies that predict the same, one counts."""
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
        name, chosen, scratch = metric_title(self.metric), self.chosen, self.over_scratch
        if scratch is None:
            answer = (
                f"{chosen.strategy} reaches {chosen.value:.3f} {name}, and without the baseline "
                f"{SCRATCH} there is nothing to measure the transfer against"
            )
        else:
            gain = scratch.gain.value
            change = f"loses {-gain:.3f} {name} against" if gain < 0 else f"gains {gain:+.3f} {name} over"
            answer = (
                f"{chosen.strategy} {change} {SCRATCH} {scratch.bounds} "
                f"at {100 * self.confidence:g}% confidence on {self.items:,} test items"
            )
            if scratch.verdict == "no evidence" and self.min_gain > 0:
                answer += f", where more than {self.min_gain:+.3f} was asked for"
        return "; ".join([answer, *(each.clause for each in self.comparisons if each is not scratch)]) + "."

    def rows(self) -> list[dict[str, Any]]:
        """The entries as the command line prints them; the metric and its bounds go by the metric's own name."""
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
        """The leaderboard that `to_json` wrote; InputError if the text is something else."""
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
    candidates: Sequence[Candidate], evaluation: Evaluation, *, seed: int = 0, retrained: Sequence[np.ndarray] = ()
) -> Leaderboard:
    """Compare all contenders on the test split; gains are over the baseline scratch where there is one.

    `retrained` are predictions int (N,) of scratch trained with other seeds. The variance of the metric over all of its
    trainings is taken for that of every strategy's, so that a gain over scratch has twice as much beside that of the
    test items, and one over another baseline once; estimated from few trainings, it is rough.

    Raises:
        HeadstartError: the contenders were not all tested on the same items in the same order, two share a name, or
            none can be chosen.
    """
    chosen = choose([each.contender for each in candidates])
    _check_comparable(candidates)
    labels = candidates[0].predictions.labels
    predicted = {each.contender.strategy: each.predictions.predicted for each in candidates}
    deviation = None
    if SCRATCH in predicted and len(retrained):
        classes = candidates[0].predictions.probabilities.shape[1]
        scores = [score(evaluation.metric, labels, each, classes) for each in (predicted[SCRATCH], *retrained)]
        deviation = float(np.std(scores, ddof=1))
    gains = _gains(candidates, chosen, evaluation, deviation or 0.0, seed)
    same = _twins(candidates, chosen)
    entries = [_entry(each, chosen, evaluation, gains, same, seed) for each in candidates]
    baselines = [each.contender.strategy for each in candidates if each.contender.kind == "baseline"]
    chances = holm([mcnemar_p(labels, predicted[chosen.strategy], predicted[each]) for each in baselines])
    comparisons = []
    for baseline, p in zip(baselines, chances, strict=True):
        gain = gains[chosen.strategy, baseline]
        comparisons.append(Comparison(baseline, gain, verdict(gain, evaluation.min_gain), p))
    return Leaderboard(
        metric=evaluation.metric,
        confidence=evaluation.confidence,
        min_gain=evaluation.min_gain,
        resamples=evaluation.resamples,
        seed=seed,
        items=len(labels),
        entries=tuple(sorted(entries, key=lambda entry: (-entry.value, entry.strategy))),
        comparisons=tuple(comparisons),
        seed_deviation=deviation,
    )


def _check_comparable(candidates: Sequence[Candidate]) -> None:
    first, names = candidates[0], set[str]()
    for each in candidates:
        name, ours, theirs = each.contender.strategy, each.predictions, first.predictions
        if name in names:
            raise HeadstartError(f"Two candidates are called {name!r}; give every strategy its own name.")
        names.add(name)
        try:
            check_predictions(ours.labels, ours.probabilities, theirs.probabilities.shape[-1])
        except HeadstartError as error:
            raise HeadstartError(f"The predictions of {name!r} are not usable. {error}") from error
        if not (np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.labels, theirs.labels)):
            raise HeadstartError(
                f"{name!r} and {first.contender.strategy!r} were tested on different samples, or in another order; "
                "evaluate every strategy on the same packed data set."
            )


def _gains(
    candidates: Sequence[Candidate], chosen: Contender, evaluation: Evaluation, deviation: float, seed: int
) -> dict[tuple[str, str], Interval]:
    """The gains of strategies over scratch, and of the chosen one over the other baselines, by the names of the two.

    `deviation` is the standard deviation of scratch's metric over its trainings.
    """
    position = {each.contender.strategy: number for number, each in enumerate(candidates)}
    # How many of the two were trained by seeds.
    trained = {}
    for each in (each.contender for each in candidates):
        if each.kind == "transfer" and SCRATCH in position:
            trained[each.strategy, SCRATCH] = 2
        elif each.kind == "baseline" and each.strategy != SCRATCH:
            trained[chosen.strategy, each.strategy] = 1
    intervals = simultaneous_gains(
        evaluation.metric,
        candidates[0].predictions.labels,
        [each.predictions.predicted for each in candidates],
        [Pair(position[ours], position[theirs], n * deviation**2) for (ours, theirs), n in trained.items()],
        candidates[0].predictions.probabilities.shape[1],
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
    )
    return dict(zip(trained, intervals, strict=True))


def _entry(
    candidate: Candidate,
    chosen: Contender,
    evaluation: Evaluation,
    gains: Mapping[tuple[str, str], Interval],
    same: Mapping[str, str],
    seed: int,
) -> Entry:
    contender, found = candidate.contender, candidate.predictions
    labels, predicted, classes = found.labels, found.predicted, found.probabilities.shape[1]
    value = bootstrap_interval(
        evaluation.metric,
        labels,
        predicted,
        classes,
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
    )
    gain = gains.get((contender.strategy, SCRATCH))
    return Entry(
        strategy=contender.strategy,
        kind=contender.kind,
        source=contender.source,
        metric=evaluation.metric,
        value=value.value,
        low=value.low,
        high=value.high,
        accuracy=score("accuracy", labels, predicted, classes),
        macro_f1=score("macro_f1", labels, predicted, classes),
        gain=gain.value if gain else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        verdict=verdict(gain, evaluation.min_gain) if gain else None,
        validation=float(contender.validation),
        seconds=float(contender.seconds),
        chosen=contender is chosen,
        run_id=contender.run_id,
        same_as=same.get(contender.strategy),
    )


def _twins(candidates: Sequence[Candidate], chosen: Contender) -> dict[str, str]:
    """The transfer strategies that give every test item the probabilities that another one gives it, each with the name
    of the other: the chosen one, or else the first."""
    transfers = [each for each in candidates if each.contender.kind == "transfer"]
    models: dict[str, np.ndarray] = {}
    twins = {}
    for each in sorted(transfers, key=lambda each: each.contender is not chosen):
        name, ours = each.contender.strategy, each.predictions.probabilities
        same = (other for other, theirs in models.items() if np.allclose(theirs, ours, rtol=0, atol=_ALIKE))
        if twin := next(same, None):
            twins[name] = twin
        else:
            models[name] = ours
    return twins
