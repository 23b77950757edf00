"""The leaderboard: every contender's score and gain."""

from headstart.charts import Axis
from headstart.judging.report.judgement import Context, Judgement

_TITLES = {"macro_f1": "macro F1", "r2": "R²"}


def section(judgement: Judgement) -> Context:
    board = judgement.board
    return {
        "over": board.over_best.title if board.over_best else "a baseline",
        # The figure beside the metric, where that is not the metric itself.
        "second": next((_TITLES[name] for name in board.chosen.second if name != board.metric), None),
        "costs": any(entry.size is not None for entry in board.entries),
        "score_axis": Axis.spanning([bound for entry in board.entries for bound in (entry.low, entry.high)]),
    }
