"""The judgement that the report's sections show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.judging.assessment import Assessment
from headstart.judging.diagnostics import Diagnostics
from headstart.judging.leaderboard import Leaderboard

# The values that a section's template shows.
Context = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """Everything that is known about a transfer once it is judged."""

    experiment: str
    assessment: Assessment
    diagnostics: Diagnostics
    """of the chosen strategy"""
    data: Mapping[str, object]
    """facts about the data set, a label and its value each, in the order they are shown; None is left out"""
    lineage: Mapping[str, object]
    """likewise"""
    reproduction: str
    """the commands that give this result again"""
    ranking: Sequence[Mapping[str, Any]] = ()
    """the candidates for the source as their selection describes them"""
    ranking_reason: str = ""
    """why one of them was taken"""

    @property
    def board(self) -> Leaderboard:
        return self.assessment.leaderboard

    @property
    def metrics(self) -> Mapping[str, Any]:
        """`classification_metrics` of the chosen strategy."""
        return self.assessment.metrics[self.board.chosen.strategy]
