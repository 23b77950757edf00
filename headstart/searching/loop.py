"""The search on one machine: trials one after another until the budget ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headstart.errors import HeadstartError
from headstart.searching.clock import Clock, OutOfTime
from headstart.searching.inputs import Source
from headstart.searching.proposals import Proposal, Proposals
from headstart.searching.searched import Searched, conclude, figures, place_of
from headstart.searching.space import Space
from headstart.searching.study import Study
from headstart.searching.trial import Goal, State, Tried, attempt, complete, settings
from headstart.strategies.section import Strategy
from headstart.tracking.trials import end_trial, trial_run
from headstart.training.trained import held_out_path

if TYPE_CHECKING:
    from headstart.tracking.runs import Run

BEHIND = "its held-out loss was above the median of others after {} quarters"
"""Why a trial is pruned after so many quarters of its epochs."""


class Watch(Protocol):
    """Is told how a search goes."""

    def began(self, number: int, strategy: Strategy, source: str, left: float) -> None:
        """A trial begins; `number` counts those that ended and this one, `left` is the budget's rest in seconds."""

    def progressed(self, label: str, done: int, total: int, note: str = "") -> None:
        """So much of a training is done."""

    def at_work(self, names: Sequence[str], left: float) -> None:
        """These strategies are tried at the moment, on a cluster; `left` is the budget's rest in seconds."""

    def ended(self, tried: Tried, best: Tried | None) -> None:
        """A trial ended; `best` is the best so far."""


@dataclass
class TrialLoop:
    """A search for one target. `places` are the bundles of the sources by their names; `own` are the recipe's
    strategies, which are tried as they are before any is drawn."""

    goal: Goal
    space: Space
    sources: Sequence[Source]
    places: Mapping[str, Path]
    own: Sequence[Strategy]
    study: Study
    record: "Run"
    clock: Clock
    _watch: Watch | None = field(default=None, init=False)

    def run(self, keep: int, *, trials: int | None = None, watch: Watch | None = None) -> Searched:
        """Try what `Proposals` says until the budget in time or in `trials` ends; choose the `keep` best. `watch` is
        told.

        Raises:
            HeadstartError: the budget ended before a trial was complete, or none could be.
        """
        self._watch = watch
        return conclude(self.study, self.clock, self._try_all(trials), keep)

    def _try_all(self, trials: int | None) -> str:
        """Try configurations to the end, and say why it is one."""
        proposals = Proposals(self.space, [each.candidate for each in self.sources], self.own, self.study)
        while True:
            if trials is not None and len(self.study.tried) >= trials:
                return f"{trials} trials were made"
            if not self.clock.left:
                return self.clock.over
            proposal = proposals.next()
            if proposal is None:
                return str(proposals.end)
            try:
                self._try(proposal)
            except OutOfTime:
                return self.clock.over
            finally:
                self.study.keep_fact("seconds", self.clock.spent)

    def _try(self, proposal: Proposal) -> None:
        if self._watch:
            number = len(self.study.tried) + 1
            self._watch.began(number, proposal.strategy, proposal.candidate.name, self.clock.left)
        tried = self._tried(proposal)
        self.study.tell(proposal.trial, tried)
        if self._watch:
            self._watch.ended(tried, next(iter(complete(self.study.tried)), None))

    def _tried(self, proposal: Proposal) -> Tried:
        trial, strategy, candidate = proposal.trial, proposal.strategy, proposal.candidate
        source = next(each for each in self.sources if each.candidate == candidate)
        begun = self.clock.spent

        def on_quarter(quarter: int, loss: float) -> None:
            trial.report(loss, quarter)
            if not proposal.fixed and trial.should_prune():
                raise _Pruned(BEHIND.format(quarter))

        def progress(label: str, done: int, total: int, note: str = "") -> None:
            if self._watch:
                self._watch.progressed(label, done, total, note)
            self.clock.check()

        found: dict[str, Any] = {}
        state: State = "complete"
        with trial_run(self.record, strategy.name, candidate.name, settings(strategy)) as run:
            try:
                found, held_out = attempt(
                    strategy, self.places[source.name], self.goal, reference=source.reference, digest=source.digest,
                    on_epoch=run.log_epoch, on_quarter=on_quarter, progress=progress,
                )  # fmt: skip
                held_out.save(held_out_path(place_of(self.study, trial.number)))
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
            end_trial(run, state, figures(tried, self.goal.metric), reason=tried.reason)
        return tried


class _Pruned(Exception):  # noqa: N818 - nothing failed
    """A trial that is behind the others."""
