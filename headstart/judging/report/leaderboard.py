"""The leaderboard: every contender's score and gain."""

from headstart.charts import Axis
from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context:
    return {
        "score_axis": Axis.spanning([bound for entry in judgement.board.entries for bound in (entry.low, entry.high)])
    }
