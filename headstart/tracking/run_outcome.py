"""Outcome of a pipeline run, read from its record, because KFP passes no outputs from a pipeline with an
exit handler."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from headstart.judging.leaderboard import Leaderboard
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import LEADERBOARD, PARENT_RUN, REGISTERED, REPORT
from headstart.tracking.runs import Run


@dataclass(frozen=True)
class Outcome:
    """The registered versions in order of registration, `models:/name/version`; the leaderboard and the HTML report,
    None for a run without a target."""

    registered: tuple[str, ...]
    leaderboard: Leaderboard | None
    report: str | None


@explained()
def read_outcome(parent: Run) -> Outcome:
    """Read the outcome from the runs below the pipeline run's parent, and from the parent's artifacts."""
    client = parent.client
    registering = f"tags.`{PARENT_RUN}` = '{parent.id}' and tags.`{REGISTERED}` LIKE 'models:/%'"
    with tempfile.TemporaryDirectory() as folder:
        runs = search_all(
            client.search_runs, [parent.experiment_id], registering, order_by=["attributes.start_time ASC"]
        )
        registered = tuple(run.data.tags[REGISTERED] for run in runs)
        kept = {
            each.path: Path(client.download_artifacts(parent.id, each.path, folder)).read_text(encoding="utf-8")
            for each in client.list_artifacts(parent.id)
            if each.path in (LEADERBOARD, REPORT)
        }
    board = kept.get(LEADERBOARD)
    return Outcome(registered, Leaderboard.from_json(board) if board else None, kept.get(REPORT))
