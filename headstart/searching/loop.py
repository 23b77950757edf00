"""The search itself: trials one after another until the budget ends, and the configurations that are worth a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headstart.errors import HeadstartError
from headstart.judging.choice import weights
from headstart.judging.contenders import Contender
from headstart.searching.clock import Clock, OutOfTime
from headstart.searching.space import Candidate, Space, default_strategy, reason_against, registered_name
from headstart.searching.study import Study, given
from headstart.searching.trial import Goal, State, Tried, attempt, complete, settings
from headstart.strategies.section import Strategy
from headstart.tracking.trials import end_trial, trial_run
from headstart.training.trained import held_out_path

if TYPE_CHECKING:
    from optuna.trial import Trial

    from headstart.tracking.runs import Run

_TRIALS = "trials"
_PROBE = "linear_probe"
# Proposals in a row that were tried before, after which nothing new is expected.
_REPEATS = 20
# Failures at the beginning after which no other configuration is expected to do better.
_FAILURES = 5


class Watch(Protocol):
    """Is told how a search goes."""

    def began(self, number: int, strategy: Strategy, source: str, left: float) -> None:
        """A trial begins; `number` counts those that ended and this one, `left` is the budget's rest in seconds."""

    def progressed(self, label: str, done: int, total: int, note: str = "") -> None:
        """So much of a training is done."""

    def ended(self, tried: Tried, best: Tried | None) -> None:
        """A trial ended; `best` is the best so far."""


@dataclass(frozen=True)
class Source:
    """A source that is searched, with its bundle's path, pinned reference and digest."""

    candidate: Candidate
    path: Path
    reference: str
    digest: str

    @property
    def name(self) -> str:
        """Its reference without the pin."""
        return self.candidate.name


@dataclass(frozen=True)
class Searched:
    """The result of a search."""

    tried: tuple[Tried, ...]
    """all trials in their order"""
    best: tuple[Tried, ...]
    """the configurations that the final run compares, best first: all of one source"""
    ties: tuple[str, ...]
    """the names of trials that held-out samples do not tell from the best, which is the first; none for a clear best"""
    seconds: float
    """of all sessions"""
    reason: str
    """why it ended"""

    @property
    def source(self) -> str:
        """The source of the best, without its pin."""
        return self.best[0].source

    @property
    def final_seconds(self) -> float:
        """What training the best anew takes in the final run, by the time that their trials took."""
        return sum(each.final_seconds for each in self.best)


@dataclass
class TrialLoop:
    """A search for one target. `own` are the recipe's strategies, which are tried as they are before any is drawn."""

    goal: Goal
    space: Space
    sources: Sequence[Source]
    own: Sequence[Strategy]
    study: Study
    record: "Run"
    clock: Clock
    _repeats: int = field(default=0, init=False)
    _watch: Watch | None = field(default=None, init=False)

    def run(self, keep: int, *, trials: int | None = None, watch: Watch | None = None) -> Searched:
        """Try configurations until the budget in time or in `trials` ends; choose the `keep` best. `watch` is told.

        First comes a linear probe of every source, then the recipe's own strategies and the default of each other one
        on the best of these, and then what TPE proposes.

        Raises:
            HeadstartError: the budget ended before a trial was complete, or none could be.
        """
        self._watch = watch
        reason = self._try_all(trials)
        self.study.keep_fact("seconds", self.clock.spent)
        done = self.study.tried
        ranked = complete(done)
        if not ranked:
            failed = next((each.reason for each in done if each.reason), None)
            raise HeadstartError(
                f"No trial is complete: {failed}"
                if failed
                else f"No trial is complete within {self.clock.limit / 60:g} minutes; give more --minutes: the same "
                "command goes on from what is done."
            )
        best = self._distinct([each for each in ranked if each.source == ranked[0].source], keep)
        return Searched(tuple(done), tuple(best), self._ties(ranked), self.clock.spent, reason)

    def _try_all(self, trials: int | None) -> str:
        """Try configurations to the end, and say why it is one."""
        while True:
            if trials is not None and len(self.study.tried) >= trials:
                return f"{trials} trials were made"
            if not self.clock.left:
                return f"the {self.clock.limit / 60:g} minutes were over"
            self._begin()
            if self._repeats > _REPEATS:
                return "every configuration was tried"
            if len(self.study.tried) >= _FAILURES and all(each.state == "failed" for each in self.study.tried):
                return f"the first {_FAILURES} trials failed"
            try:
                self._try(self.study.ask())
            except OutOfTime:
                return f"the {self.clock.limit / 60:g} minutes were over"
            finally:
                self.study.keep_fact("seconds", self.clock.spent)

    def _begin(self) -> None:
        """Let the trials wait that begin a search, once each."""
        if self.study.waiting:
            return
        begun = self.study.facts.get("begun", 0)
        if begun == 0 and len(self.sources) > 1 and _PROBE in self.space.settings:
            self._add([source.candidate for source in self.sources], [default_strategy(_PROBE)])
            begun = 1
        elif begun < 2:
            self._add([self._best_source()], self._starts())
            begun = 2
        self.study.keep_fact("begun", begun)

    def _add(self, sources: Sequence[Candidate], strategies: Sequence[Strategy]) -> None:
        for source in sources:
            for strategy in strategies:
                if reason_against(strategy, source) is None:
                    self.study.add(source.name, registered_name(strategy), settings(strategy))

    def _starts(self) -> list[Strategy]:
        """The recipe's own strategies of those that are searched, and the default of every other one."""
        own = [each for each in self.own if registered_name(each) in self.space.settings]
        named = {registered_name(each) for each in own}
        return [*own, *(default_strategy(name) for name in self.space.settings if name not in named)]

    def _best_source(self) -> Candidate:
        probed = complete(self.study.tried)
        return self.space.source(probed[0].source) if probed else self.sources[0].candidate

    def _try(self, trial: "Trial") -> None:
        strategy = given(trial)
        if strategy is None:
            candidate, strategy = self.space.draw(trial, trial.number)
        else:
            candidate, _ = self.space.draw_kind(trial)
        known = self.study.tried
        if any(_content(each.source, each.strategy) == _content(candidate.name, settings(strategy)) for each in known):
            self._repeats += 1
            self.study.drop(trial)
            return
        self._repeats = 0
        if self._watch:
            self._watch.began(len(known) + 1, strategy, candidate.name, self.clock.left)
        tried = self._tried(trial, strategy, candidate)
        self.study.tell(trial, tried)
        if self._watch:
            self._watch.ended(tried, next(iter(complete(self.study.tried)), None))

    def _tried(self, trial: "Trial", strategy: Strategy, candidate: Candidate) -> Tried:
        source = next(each for each in self.sources if each.candidate == candidate)
        fixed = given(trial) is not None
        begun = self.clock.spent

        def on_quarter(quarter: int, loss: float) -> None:
            trial.report(loss, quarter)
            if not fixed and trial.should_prune():
                raise _Pruned(f"its held-out loss was above the median of others after {quarter} quarters")

        def progress(label: str, done: int, total: int, note: str = "") -> None:
            if self._watch:
                self._watch.progressed(label, done, total, note)
            self.clock.check()

        found: dict[str, Any] = {}
        state: State = "complete"
        with trial_run(self.record, strategy.name, candidate.name, settings(strategy)) as run:
            try:
                found, held_out = attempt(
                    strategy, source.path, self.goal, reference=source.reference, digest=source.digest,
                    on_epoch=run.log_epoch, on_quarter=on_quarter, progress=progress,
                )  # fmt: skip
                held_out.save(held_out_path(self._place(trial.number)))
            except _Pruned as pruned:
                state, found["reason"] = "pruned", str(pruned)
            except OutOfTime:
                self.study.postpone(trial)
                raise
            except HeadstartError as error:
                state, found["reason"] = "failed", str(error)
            tried = Tried(
                trial.number,
                candidate.name,
                settings(strategy),
                **{"seconds": self.clock.spent - begun, **found},
                state=state,
            )
            end_trial(run, state, figures(tried, self.goal.metric))
        return tried

    def _place(self, number: int) -> Path:
        folder = self.study.folder / _TRIALS
        folder.mkdir(exist_ok=True)
        return folder / f"{number}.parquet"

    def _contender(self, tried: Tried) -> Contender:
        value = tried.value or 0.0
        return Contender(tried.name, "transfer", self._place(tried.number), value, tried.seconds, "", tried.source)

    def _distinct(self, ranked: Sequence[Tried], keep: int) -> list[Tried]:
        """The first `keep` whose predictions differ."""
        found: list[Tried] = []
        for each in ranked:
            held_out = self._contender(each).held_out
            others = [self._contender(other).held_out for other in found]
            if held_out and not any(other and held_out.is_same(other) for other in others):
                found.append(each)
            if len(found) == keep:
                break
        return found

    def _ties(self, ranked: Sequence[Tried]) -> tuple[str, ...]:
        tied = [each.strategy for each, _ in weights([self._contender(each) for each in ranked])]
        first = ranked[0].name
        return (first, *(name for name in tied if name != first)) if len(tied) > 1 else ()


class _Pruned(Exception):  # noqa: N818 - nothing failed
    """A trial that is behind the others."""


def _content(source: str, strategy: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kept = {key: value for key, value in strategy.items() if key not in ("name", "strategy")}
    # Which strategy it is, its settings say, or its registered name alone.
    return source, kept


def figures(tried: Tried, metric: str) -> dict[str, float | None]:
    """A trial's figures by their names in the record."""
    return {
        "val/log_loss": tried.loss,
        f"val/best_{metric}": tried.value,
        f"val/best_{metric}_low": tried.low,
        f"val/best_{metric}_high": tried.high,
        "time/seconds": tried.seconds,
    }
