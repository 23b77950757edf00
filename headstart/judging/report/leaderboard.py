"""The leaderboard: every contender's score and gain."""

from typing import Any

from headstart.charts import Axis
from headstart.judging.report.judgement import Judgement


def section(judgement: Judgement) -> dict[str, Any]:
    return {
        "score_axis": Axis.spanning([bound for entry in judgement.board.entries for bound in (entry.low, entry.high)])
    }
