"""The leaderboard: every contender's score and gain."""

from headstart.charts import Axis
from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context:
    board = judgement.board
    return {
        "over": board.over_best.title if board.over_best else "a baseline",
        "costs": any(entry.size is not None for entry in board.entries),
        "score_axis": Axis.spanning([bound for entry in board.entries for bound in (entry.low, entry.high)]),
    }
