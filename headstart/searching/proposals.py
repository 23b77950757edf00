"""What a search tries next: first what begins it, then what TPE proposes, and nothing twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headstart.searching.space import Candidate, Space, default_strategy, reason_against, registered_name
from headstart.searching.study import Study, given
from headstart.searching.trial import complete, settings
from headstart.strategies.section import Strategy

if TYPE_CHECKING:
    from optuna.trial import Trial

_PROBE = "linear_probe"
# Proposals in a row that were tried before, after which nothing new is expected.
_REPEATS = 20
# Failures at the beginning after which no other configuration is expected to do better.
_FAILURES = 5


@dataclass(frozen=True)
class Proposal:
    """A trial that was asked for: what it tries. One that is `fixed` begins the search, and is never pruned."""

    trial: "Trial"
    candidate: Candidate
    strategy: Strategy
    fixed: bool


@dataclass
class Proposals:
    """The configurations of a search, one after another. `own` are the recipe's strategies, which are tried as they are
    before any is drawn; `sources` are in the recipe's order.

    First comes a linear probe of every source, then the recipe's own strategies and the default of each other one on
    the best of these, and then what TPE proposes.
    """

    space: Space
    sources: Sequence[Candidate]
    own: Sequence[Strategy]
    study: Study
    _repeats: int = field(default=0, init=False)

    @property
    def end(self) -> str | None:
        """Why nothing more is worth trying; None while something is."""
        if self._repeats > _REPEATS:
            return "every configuration was tried"
        tried = self.study.tried
        if len(tried) >= _FAILURES and all(each.state == "failed" for each in tried):
            return f"the first {_FAILURES} trials failed"
        return None

    def next(self) -> Proposal | None:
        """Ask for the next trial; None where none is new, as `end` then says, or where it depends on those at work."""
        while self._begin() and self.end is None:
            trial = self.study.ask()
            strategy = given(trial)
            fixed = strategy is not None
            if strategy is None:
                candidate, strategy = self.space.draw(trial, trial.number)
            else:
                candidate, _ = self.space.draw_kind(trial)
            if not self._is_known(candidate, strategy):
                self._repeats = 0
                return Proposal(trial, candidate, strategy, fixed)
            self._repeats += 1
            self.study.drop(trial)
        return None

    def _is_known(self, candidate: Candidate, strategy: Strategy) -> bool:
        content = _content(candidate.name, settings(strategy))
        known = [(each.source, each.strategy) for each in self.study.tried]
        known += [(sent.source, sent.strategy) for _, sent, _ in self.study.at_work]
        return any(_content(*each) == content for each in known)

    def _begin(self) -> bool:
        """Let the trials wait that begin a search, once each; whether that can be said before others end."""
        if self.study.waiting:
            return True
        begun = self.study.facts.get("begun", 0)
        if begun == 0 and len(self.sources) > 1 and _PROBE in self.space.settings:
            self._add(self.sources, [default_strategy(_PROBE)])
            begun = 1
        elif begun == 1 and self.study.at_work:
            return False
        elif begun < 2:
            self._add([self._best_source()], self._starts())
            begun = 2
        self.study.keep_fact("begun", begun)
        return True

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
        return self.space.source(probed[0].source) if probed else self.sources[0]


def _content(source: str, strategy: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kept = {key: value for key, value in strategy.items() if key not in ("name", "strategy")}
    # Which strategy it is, its settings say, or its registered name alone.
    return source, kept
