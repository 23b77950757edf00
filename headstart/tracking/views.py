"""What MLflow's page shows of a finished pipeline run at its parent: the answer, links to compare, the leaderboard."""

import json
from typing import Any

from headstart.judging.leaderboard import Leaderboard
from headstart.tracking.client import explained
from headstart.tracking.links import charts_page, compare_page, curves_page
from headstart.tracking.names import NOTE, SENTENCE
from headstart.tracking.runs import Run

# MLflow's page shows an artifact that this tag lists as a table.
_LISTED_TABLES = "mlflow.loggedArtifacts"
_LEADERBOARD = "leaderboard.json"


def prepare_views(parent: Run, board: Leaderboard) -> None:
    """Writes the parent's description and its artifact leaderboard.json; the entries of `board` name their runs.

    Doing it again replaces both, where `MlflowClient.log_table` would append.
    """
    with explained():
        parent.client.log_dict(parent.id, leaderboard_table(board), _LEADERBOARD)
    parent.set_tags(
        {
            NOTE: description(parent, board),
            SENTENCE: board.sentence,
            _LISTED_TABLES: json.dumps([{"path": _LEADERBOARD, "type": "table"}]),
        }
    )


def description(parent: Run, board: Leaderboard) -> str:
    """Markdown: the verdict with its figures, and links to MLflow's views of the parent's strategies and baselines."""
    run_ids = [entry.run_id for entry in board.entries if entry.run_id]
    views = {
        "charts": charts_page(parent.experiment_id, parent.id, board.metric),
        "compare page": compare_page(parent.experiment_id, run_ids),
        f"val/{board.metric} by epoch": curves_page(parent.experiment_id, run_ids, f"val/{board.metric}"),
    }
    links = " · ".join(f"[{title}]({page})" for title, page in views.items())
    return f"**{board.verdict or 'unknown'}**: {board.explanation}\n\nStrategies and baselines: {links}"


def leaderboard_table(board: Leaderboard) -> dict[str, list[Any]]:
    """The leaderboard as pandas writes a table with `orient="split"`: column names, and one list of values a row."""
    rows = board.rows()
    return {
        "columns": list(rows[0]),
        "data": [[round(value, 4) if isinstance(value, float) else value for value in row.values()] for row in rows],
    }
