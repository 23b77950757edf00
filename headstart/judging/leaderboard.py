"""The leaderboard: every contender's figures on the test split, best first, and the gains between them.

All gains that it shows have intervals that hold at once, so that none is a verdict only because there are many. They
are those of the strategies over scratch and over the best baseline, and those of the winner over the other baselines.
"""

import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from headstart.errors import HeadstartError, InputError
from headstart.figures import figure
from headstart.judging.choice import choose
from headstart.judging.contenders import GUESSES, SCRATCH, Candidate, Contender, Kind
from headstart.judging.section import Evaluation
from headstart.judging.spread import Spread, noise_of
from headstart.judging.verdict import Comparison, Verdict, overall_verdict, verdict
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import Pair, simultaneous_gains
from headstart.metrics.groups import count_groups, group_numbers, of_groups
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metric_title, metrics_of
from headstart.metrics.predictions import Predictions
from headstart.metrics.significance import holm, paired_p
from headstart.metrics.tally import score


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard. `low` and `high` bound `value` on the test split; `gain` is over scratch."""

    strategy: str
    kind: Kind
    source: str | None
    metric: str
    value: float
    low: float
    high: float
    accuracy: float | None
    macro_f1: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    verdict: Verdict | None
    """over the baselines that it was compared with: the chosen strategy with all of them, another with scratch and the
    best; None for a baseline, and where none was trained"""
    validation: float | None
    """None where every label was learned from"""
    seconds: float
    chosen: bool
    run_id: str | None
    same_as: str | None = None
    """the transfer strategy that predicts the same, as where both kept the weights that they started from"""
    gain_over_best: float | None = None
    gain_over_best_low: float | None = None
    gain_over_best_high: float | None = None
    members: tuple[str, ...] = ()
    """the strategies of which a combination is formed: a prediction costs a pass of each"""
    seed_deviation: float | None = None
    """the standard deviation of the metric over trainings with other seeds, which the gains' intervals include; None
    where it was trained once"""
    size: int | None = None
    """bytes of the model; None, as for `milliseconds`, where no model is kept"""
    milliseconds: float | None = None
    """of a prediction for one sample, on a core of the machine that evaluated"""
    r2: float | None = None
    """of a regression, which has neither accuracy nor macro F1"""
    original: str | None = None
    """the strategy of whose model this is a smaller copy"""

    @property
    def second(self) -> dict[str, float]:
        """The figure that stands beside the metric, by its name: macro F1, or R² of numbers."""
        found = {"macro_f1": self.macro_f1, "r2": self.r2}
        return {name: value for name, value in found.items() if value is not None}


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
    """that of scratch's entry"""
    facts: dict[str, str] = field(default_factory=dict)
    """sentences that stand beside the verdict, by the name of the fact (headstart/judging/headline.py)"""
    groups: int | None = None
    """the number of groups in the test split, an item alone being one; None where all are alone"""
    best_baseline: str | None = None
    """that with the best metric on the test split, the majority class among them; None where none was trained"""
    ties: tuple[str, ...] = ()
    """the strategies within noise of the best one on held-out samples, which is first; none for a clear best"""
    delivered: str | None = None
    """the contender that is handed over: the transfer, or a baseline that was better on held-out samples"""
    recommended: str | None = None
    """a baseline that was better still, and of which predictions alone were kept"""

    @property
    def chosen(self) -> Entry:
        """The transfer: the best contender that uses a source, by its predictions for held-out samples."""
        return next(entry for entry in self.entries if entry.chosen)

    @property
    def delivered_entry(self) -> Entry:
        """The entry of the contender that is delivered."""
        return next((entry for entry in self.entries if entry.strategy == self.delivered), self.chosen)

    @property
    def scratch(self) -> Entry | None:
        """The entry of the baseline scratch."""
        return next((entry for entry in self.entries if entry.strategy == SCRATCH), None)

    @property
    def over_best(self) -> Comparison | None:
        """The chosen strategy against the best baseline."""
        return next((each for each in self.comparisons if each.baseline == self.best_baseline), None)

    @property
    def worth_showing(self) -> list[Comparison]:
        """The comparisons, but that with the majority class only where it is not clearly beaten."""
        return [each for each in self.comparisons if each.baseline not in GUESSES or each.verdict != "helped"]

    @property
    def verdict(self) -> Verdict | None:
        """Whether the chosen strategy helped over every baseline; None where none was trained."""
        return self.chosen.verdict

    @property
    def gains_count(self) -> int:
        """The number of gains whose intervals hold at once; of strategies that predict the same, one counts."""
        counted = [entry for entry in self.entries if entry.same_as is None and entry.kind == "transfer"]
        over_scratch = sum(entry.gain is not None for entry in counted)
        over_best = sum(entry.gain_over_best is not None and not entry.chosen for entry in counted)
        others = sum(each.baseline != SCRATCH for each in self.comparisons)
        return over_scratch + others + (over_best if self.best_baseline != SCRATCH else 0)

    @property
    def unbeaten(self) -> list[str]:
        """The baselines, as sentences name them, that the chosen strategy is not shown to be better than."""
        return [each.title for each in self.comparisons if each.verdict != "helped" and each.learned is None]

    @property
    def untrained(self) -> list[str]:
        """The baselines that had not learned their own training samples, so that to beat them proves nothing."""
        return [each.title for each in self.comparisons if each.verdict == "no evidence" and each.learned is not None]

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error: gains are then by how much it is less."""
        return self.metric in METRICS and METRICS[self.metric].lower_is_better

    @property
    def subject(self) -> str:
        """The transfer as the beginning of a sentence, with the strategies that tie."""
        chosen = self.chosen
        others = [name for name in self.ties if name != chosen.strategy]
        tied = f", which held-out samples do not tell from {listed(others)}," if others else ""
        return f"{chosen.strategy}{tied}"

    @property
    def delivery(self) -> str:
        """The contender that is delivered, in words: why, and what it costs where that is more than one network."""
        entry = self.delivered_entry
        text, lower = entry.strategy, "has a lower log loss on held-out samples than"
        if entry.members:
            text += f" of {listed(entry.members)}, weighted by held-out samples"
            text += f" ({len(entry.members)} models for a prediction)"
        elif entry.original:
            text += (
                f", the model of {entry.original} in 8-bit whole numbers, which held-out samples do not tell from it"
            )
        elif not entry.chosen:
            text += f", a baseline: it {lower} {self.chosen.strategy}"
        if self.recommended:
            text += (
                f"; {self.recommended} {lower} {entry.strategy} and is the better model, but only its predictions are "
                "kept: prefer to fit it yourself, or give more labels"
            )
        return text

    @property
    def sentence(self) -> str:
        """The verdict and the figures behind it."""
        return f"{self.verdict or 'unknown'}: {self.explanation}"

    @property
    def explanation(self) -> str:
        """The figures behind the verdict, in one sentence."""
        name, chosen, best = metric_title(self.metric), self.chosen, self.over_best
        if best is None:
            return (
                f"{self.subject} reaches {figure(chosen.value)} {name}, and without a baseline there is nothing to "
                "measure the transfer against."
            )
        gain = best.gain.value
        change = (
            f"loses {figure(-gain)} {name} against" if gain < 0 else f"gains {figure(gain, signed=True)} {name} over"
        )
        if self.lower_is_better:
            change = f"has {figure(abs(gain))} {'more' if gain < 0 else 'less'} {name} than"
        answer = (
            f"{self.subject} {change} {best.title} {best.bounds} "
            f"at {100 * self.confidence:g}% confidence on {self.items:,} test items{of_groups(self.groups)}"
        )
        if best.learned is not None and best.verdict == "no evidence":
            answer += f", which {best.proves_nothing}"
        elif best.verdict == "no evidence" and self.min_gain > 0:
            answer += f", where more than {figure(self.min_gain, signed=True)} was asked for"
        return "; ".join([answer, *(each.clause for each in self.worth_showing if each is not best)]) + "."

    def rows(self) -> list[dict[str, Any]]:
        """The entries as the command line prints them; the metric and its bounds go by the metric's own name."""
        return [
            {
                "strategy": entry.strategy,
                "source": entry.source,
                self.metric: entry.value,
                f"{self.metric}_low": entry.low,
                f"{self.metric}_high": entry.high,
                **entry.second,
                "gain": entry.gain,
                "gain_low": entry.gain_low,
                "gain_high": entry.gain_high,
                "gain_over_best": entry.gain_over_best,
                "gain_over_best_low": entry.gain_over_best_low,
                "gain_over_best_high": entry.gain_over_best_high,
                "seconds": entry.seconds,
                "run_id": entry.run_id,
                "same_as": entry.same_as,
                "members": ", ".join(entry.members) or None,
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
            content["entries"] = tuple(
                Entry(**{**entry, "members": tuple(entry.get("members", ()))}) for entry in content["entries"]
            )
            content["ties"] = tuple(content.get("ties", ()))
            content["comparisons"] = tuple(
                Comparison(**{**each, "gain": Interval(**each["gain"])}) for each in content["comparisons"]
            )
            return cls(**content)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"This is not a leaderboard of headstart ({error}); evaluate again.") from error


def listed(names: Sequence[str]) -> str:
    """Names as sentences list them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def build_leaderboard(
    candidates: Sequence[Candidate],
    evaluation: Evaluation,
    *,
    seed: int = 0,
    retrained: Mapping[str, Sequence[np.ndarray]] = MappingProxyType({}),
    unlearned: Mapping[str, float] = MappingProxyType({}),
) -> Leaderboard:
    """Compare all contenders on the test split.

    `retrained` are, for each contender that was trained in steps, and for combinations of these, predictions int (N,)
    of its trainings with other seeds. Their variance is part of a gain's beside that by the test items (`noise_of`);
    the interval of a gain over scratch is that over the mean of its trainings. `unlearned` are the baselines that had
    not learned their own training samples, with their accuracy on these.

    Raises:
        HeadstartError: the contenders were not all tested on the same items in the same order, two share a name, or
            none can be chosen.
    """
    choice, first = choose([each.contender for each in candidates]), candidates[0].predictions
    chosen = choice.transfer
    _check_comparable(candidates)
    labels, groups, classes = first.labels, group_numbers(first.groups), len(first.classes)
    merit = METRICS[evaluation.metric].merit
    predicted = {each.contender.strategy: each.predictions.predicted for each in candidates}
    baselines, best = _baselines(candidates, predicted, evaluation.metric)
    spreads = _spreads(retrained, predicted, evaluation.metric, labels, classes)
    pairs = _pairs(candidates, chosen, baselines, best)
    varying = {each.contender.strategy: _varies_as(each.contender, predicted, spreads) for each in candidates}
    gains = _gains(pairs, predicted, first, evaluation, spreads, varying, seed)
    told = {pair: verdict(gain, evaluation.min_gain, learned=pair[1] not in unlearned) for pair, gain in gains.items()}
    chances = holm([paired_p(labels, predicted[chosen.strategy], predicted[name], groups) for name in baselines])
    comparisons = [
        Comparison(name, gains[chosen.strategy, name], told[chosen.strategy, name], p, unlearned.get(name))
        for name, p in zip(baselines, chances, strict=True)
    ]
    same = _twins(candidates, chosen)
    deviations = {name: each.deviation for name, each in spreads.items()}
    made = ((each.contender.strategy, _entry(each, chosen, evaluation, gains, best, told, seed)) for each in candidates)
    entries = [replace(entry, same_as=same.get(name), seed_deviation=deviations.get(name)) for name, entry in made]
    return Leaderboard(
        metric=evaluation.metric,
        confidence=evaluation.confidence,
        min_gain=evaluation.min_gain,
        resamples=evaluation.resamples,
        seed=seed,
        items=len(labels),
        groups=count_groups(groups),
        entries=tuple(sorted(entries, key=lambda entry: (-merit(entry.value), entry.strategy))),
        comparisons=tuple(comparisons),
        seed_deviation=deviations.get(SCRATCH),
        best_baseline=best,
        ties=choice.ties,
        delivered=choice.delivered.strategy,
        recommended=choice.recommended.strategy if choice.recommended else None,
    )


def _varies_as(contender: Contender, names: Container[str], spreads: Container[str]) -> tuple[str, ...]:
    """The contenders whose spread over seeds is this one's; scratch's where its original is none of these `names`, and
    the members' where a combination has none of its own."""
    if contender.members and contender.strategy not in spreads:
        return contender.members
    if contender.original is None:
        return (contender.strategy,)
    return (contender.original if contender.original in names else SCRATCH,)


def _baselines(
    candidates: Sequence[Candidate], predicted: dict[str, np.ndarray], metric: str
) -> tuple[list[str], str | None]:
    """The names of the baselines, the best constant answer among them, which is added to `predicted`, and that of the
    best one."""
    first = candidates[0].predictions
    found = [each.contender.strategy for each in candidates if each.contender.kind == "baseline"]
    if found:
        found.append(first.kind.guess_title)
        predicted[first.kind.guess_title] = first.kind.guess(first.labels)
    merit, classes = METRICS[metric].merit, len(first.classes)
    values = {name: merit(score(metric, first.labels, predicted[name], classes)) for name in found}
    return found, max(values, key=values.__getitem__, default=None)


def _spreads(
    retrained: Mapping[str, Sequence[np.ndarray]],
    predicted: Mapping[str, np.ndarray],
    metric: str,
    labels: np.ndarray,
    classes: int,
) -> dict[str, Spread]:
    """The spread of the metric over the trainings of each contender in `retrained`, the one that is shown first."""
    return {
        name: Spread.of([score(metric, labels, each, classes) for each in (predicted[name], *others)])
        for name, others in retrained.items()
    }


def _pairs(
    candidates: Sequence[Candidate], chosen: Contender, baselines: Sequence[str], best: str | None
) -> list[tuple[str, str]]:
    """The comparisons: each strategy with scratch and the best baseline, the chosen one with the others too."""
    strategies = [each.contender.strategy for each in candidates if each.contender.kind == "transfer"]
    pairs = [(strategy, name) for strategy in strategies for name in baselines if name in (SCRATCH, best)]
    return pairs + [(chosen.strategy, name) for name in baselines if name not in (SCRATCH, best)]


def _check_comparable(candidates: Sequence[Candidate]) -> None:
    first, names = candidates[0], set[str]()
    for each in candidates:
        name, ours, theirs = each.contender.strategy, each.predictions, first.predictions
        if name in names:
            raise HeadstartError(f"Two candidates are called {name!r}; give every strategy its own name.")
        names.add(name)
        try:
            ours.kind.check(ours.labels, ours.outputs, len(theirs.classes))
        except HeadstartError as error:
            raise HeadstartError(f"The predictions of {name!r} are not usable. {error}") from error
        if not (np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.labels, theirs.labels)):
            raise HeadstartError(
                f"{name!r} and {first.contender.strategy!r} were tested on different samples, or in another order; "
                "evaluate every strategy on the same packed data set."
            )


def _gains(
    pairs: Sequence[tuple[str, str]],
    predicted: Mapping[str, np.ndarray],
    tested: Predictions,
    evaluation: Evaluation,
    spreads: Mapping[str, Spread],
    varying: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[tuple[str, str], Interval]:
    """The gains of strategies over baselines, by the names of the two, with intervals that hold all at once.

    `tested` has the items; `spreads` are those of the metric over trainings, and `varying` names the contenders whose
    spread is each one's.
    """
    position = {name: number for number, name in enumerate(predicted)}
    intervals = simultaneous_gains(
        evaluation.metric,
        tested.labels,
        list(predicted.values()),
        [Pair(position[ours], position[theirs], *noise_of(varying[ours], theirs, spreads)) for ours, theirs in pairs],
        len(tested.classes),
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
        groups=tested.groups,
    )
    # Of a baseline the first training is shown; what another would have reached is as likely that of any.
    merit = METRICS[evaluation.metric].merit
    above = {name: merit(each.shown - each.mean) for name, each in spreads.items()}
    return {
        (ours, theirs): Interval(gain.value, gain.low + above[theirs], gain.high + above[theirs])
        if theirs in above and gain.low < gain.high
        else gain
        for (ours, theirs), gain in zip(pairs, intervals, strict=True)
    }


def _entry(
    candidate: Candidate,
    chosen: Contender,
    evaluation: Evaluation,
    gains: Mapping[tuple[str, str], Interval],
    best: str | None,
    told: Mapping[tuple[str, str], Verdict],
    seed: int,
) -> Entry:
    contender, found = candidate.contender, candidate.predictions
    labels, predicted, classes = found.labels, found.predicted, len(found.classes)
    known = metrics_of(found.task)
    of = {name: score(name, labels, predicted, classes) for name in ("accuracy", "macro_f1", "r2") if name in known}
    value = bootstrap_interval(
        evaluation.metric,
        labels,
        predicted,
        classes,
        confidence=evaluation.confidence,
        resamples=evaluation.resamples,
        seed=seed,
        groups=found.groups,
    )
    own = {theirs: gain for (ours, theirs), gain in gains.items() if ours == contender.strategy}
    gain, over_best = own.get(SCRATCH), own.get(best or "")
    return Entry(
        strategy=contender.strategy,
        kind=contender.kind,
        source=contender.source,
        metric=evaluation.metric,
        value=value.value,
        low=value.low,
        high=value.high,
        accuracy=of.get("accuracy"),
        macro_f1=of.get("macro_f1"),
        r2=of.get("r2"),
        gain=gain.value if gain else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        verdict=overall_verdict(word for (ours, _), word in told.items() if ours == contender.strategy),
        validation=float(contender.validation) if math.isfinite(contender.validation) else None,
        seconds=float(contender.seconds),
        chosen=contender is chosen,
        run_id=contender.run_id,
        gain_over_best=over_best.value if over_best else None,
        gain_over_best_low=over_best.low if over_best else None,
        gain_over_best_high=over_best.high if over_best else None,
        members=contender.members,
        original=contender.original,
        size=candidate.cost.size if candidate.cost else None,
        milliseconds=candidate.cost.milliseconds if candidate.cost else None,
    )


def _twins(candidates: Sequence[Candidate], chosen: Contender) -> dict[str, str]:
    """The transfer strategies that give every test item the probabilities that another one gives it, each with the name
    of the other: the chosen one, or else the first."""
    transfers = [each for each in candidates if each.contender.kind == "transfer"]
    models: dict[str, Predictions] = {}
    twins = {}
    for each in sorted(transfers, key=lambda each: each.contender is not chosen):
        name, ours = each.contender.strategy, each.predictions
        same = (other for other, theirs in models.items() if theirs.is_same(ours))
        if twin := next(same, None):
            twins[name] = twin
        else:
            models[name] = ours
    return twins
