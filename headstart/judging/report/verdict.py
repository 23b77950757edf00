"""The verdict, in words and as the gains over each baseline."""

from collections.abc import Sequence

from headstart.charts import Axis
from headstart.judging.leaderboard import Leaderboard
from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context:
    board = judgement.board
    bounds = [bound for each in board.worth_showing for bound in (each.gain.low, each.gain.high)]
    return {
        "qualified": _qualified(board),
        "gain_axis": Axis.spanning([0.0, board.min_gain, *bounds]) if bounds else None,
    }


def _qualified(board: Leaderboard) -> str:
    """A clause that names the baselines that do better than the chosen strategy, or else as well; "" for none."""
    better = [each.title for each in board.comparisons if each.verdict == "hurt"]
    if better:
        return f"{_listed(better)} {'do' if len(better) > 1 else 'does'} better"
    return f"not clearly better than {_listed(board.unbeaten)}" if board.unbeaten else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
