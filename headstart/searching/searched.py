"""The result of a search: all trials, and the configurations that are worth a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import HeadstartError
from headstart.judging.choice import weights
from headstart.judging.contenders import Contender
from headstart.searching.clock import Clock
from headstart.searching.study import Study
from headstart.searching.trial import Tried, complete

_TRIALS = "trials"


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


def conclude(study: Study, clock: Clock, reason: str, keep: int) -> Searched:
    """Choose the `keep` best of a search that ended for `reason`, and keep the seconds that it took.

    Raises:
        HeadstartError: no trial is complete.
    """
    study.keep_fact("seconds", clock.spent)
    done = study.tried
    ranked = complete(done)
    if not ranked:
        failed = next((each.reason for each in done if each.reason), None)
        raise HeadstartError(
            f"No trial is complete: {failed}"
            if failed
            else f"No trial is complete within {clock.limit / 60:g} minutes; give more --minutes: the same "
            "command goes on from what is done."
        )
    best = _distinct(study, [each for each in ranked if each.source == ranked[0].source], keep)
    return Searched(tuple(done), tuple(best), _ties(study, ranked), clock.spent, reason)


def place_of(study: Study, number: int) -> Path:
    """The file of a trial's predictions, in a folder that is there."""
    folder = study.folder / _TRIALS
    folder.mkdir(exist_ok=True)
    return folder / f"{number}.parquet"


def figures(tried: Tried, metric: str) -> dict[str, float | None]:
    """A trial's figures by their names in the record."""
    return {
        "val/log_loss": tried.loss,
        f"val/best_{metric}": tried.value,
        f"val/best_{metric}_low": tried.low,
        f"val/best_{metric}_high": tried.high,
        "time/seconds": tried.seconds,
    }


def _contender(study: Study, tried: Tried) -> Contender:
    place = place_of(study, tried.number)
    return Contender(tried.name, "transfer", place, tried.value or 0.0, tried.seconds, "", tried.source)


def _distinct(study: Study, ranked: Sequence[Tried], keep: int) -> list[Tried]:
    """The first `keep` whose predictions differ."""
    found: list[Tried] = []
    for each in ranked:
        held_out = _contender(study, each).held_out
        others = [_contender(study, other).held_out for other in found]
        if held_out and not any(other and held_out.is_same(other) for other in others):
            found.append(each)
        if len(found) == keep:
            break
    return found


def _ties(study: Study, ranked: Sequence[Tried]) -> tuple[str, ...]:
    tied = [each.strategy for each, _ in weights([_contender(study, each) for each in ranked])]
    first = ranked[0].name
    return (first, *(name for name in tied if name != first)) if len(tied) > 1 else ()
