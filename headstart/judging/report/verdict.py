"""The verdict, in words and as the gains over each baseline."""

from headstart.charts import Axis
from headstart.judging.leaderboard import Leaderboard, listed
from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context:
    board = judgement.board
    bounds = [bound for each in board.worth_showing for bound in (each.gain.low, each.gain.high)]
    return {
        "qualified": _qualified(board),
        "of_numbers": judgement.diagnostics.numbers is not None,
        "of_labels": bool(judgement.diagnostics.labels),
        "gain_axis": Axis.spanning([0.0, board.min_gain, *bounds]) if bounds else None,
    }


def _qualified(board: Leaderboard) -> str:
    """A clause that names the baselines that do better than the chosen strategy, or else as well; "" for none."""
    better = [each.title for each in board.comparisons if each.verdict == "hurt"]
    if better:
        return f"{listed(better)} {'do' if len(better) > 1 else 'does'} better"
    if board.unbeaten:
        return f"not clearly better than {listed(board.unbeaten)}"
    return f"{listed(board.untrained)} had not learned its own training samples" if board.untrained else ""
