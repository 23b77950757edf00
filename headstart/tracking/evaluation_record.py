"""An assessment in MLflow: test metrics on each strategy's run, the answer on the pipeline run's parent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.judging.assessment import Assessment
from headstart.judging.leaderboard import Entry, Leaderboard
from headstart.models.reference import numbered, unpinned
from headstart.tracking.client import explained, search_all
from headstart.tracking.mlflow_pages import charts_page, compare_page, curves_page
from headstart.tracking.names import (
    CHOSEN,
    NOTE,
    PARENT_RUN,
    REUSED_FROM,
    ROLE,
    SAME_AS,
    SENTENCE,
    SOURCE_MODEL,
    STRATEGY,
    VERDICT,
)
from headstart.tracking.runs import Run, child_run, top_run

# Artifacts of a pipeline run's parent: the whole leaderboard, which the table leaderboard.json shows in MLflow's page,
# and the page with the verdict.
LEADERBOARD = "assessment.json"
REPORT = "report.html"
# MLflow's page shows an artifact that this tag lists as a table.
_LISTED_TABLES = "mlflow.loggedArtifacts"
_LEADERBOARD = "leaderboard.json"


def record_assessment(
    run: Run, assessment: Assessment, report: str, predictions: Path, *, source_version: str = ""
) -> Assessment:
    """Writes what `evaluate` found and its report, an HTML page; `run` is the evaluation step's own.

    Runs that know the pipeline run's own source by its content, as it was not registered yet, name it from now on by
    the number of its version; `source_version` is that version's pinned reference.

    A strategy that was reused from an earlier pipeline run gets a run of its own under this parent, marked as reused,
    so that every parent's children are complete. The assessment that comes back names the runs written to.
    """
    parent = replace(run, id=run.parent_id or run.id, parent_id=None)
    board = assessment.leaderboard
    run_ids = {}
    for entry in board.entries:
        target = _run_of(parent, entry)
        run_ids[entry.strategy] = target.id
        target.log_metrics(assessment.figures(entry.strategy))
        target.log_artifact(predictions / f"{entry.strategy}.parquet")
        target.set_tags({CHOSEN: str(entry.chosen).lower(), VERDICT: entry.verdict or "", SAME_AS: entry.same_as or ""})
        if target.id != entry.run_id:
            parent.client.set_terminated(target.id, "FINISHED")
    entries = tuple(replace(entry, run_id=run_ids[entry.strategy]) for entry in board.entries)
    board = replace(board, entries=entries)
    parent.log_metrics(assessment.figures(board.chosen.strategy))
    parent.set_tags({VERDICT: board.verdict or "", STRATEGY: board.chosen.strategy})
    parent.log_page(REPORT, report)
    parent.log_json(LEADERBOARD, json.loads(board.to_json()))
    prepare_views(parent, board)
    if source_version:
        _number_source(parent, source_version)
    return replace(assessment, leaderboard=board)


@explained()
def _number_source(parent: Run, version: str) -> None:
    unnumbered = f"tags.`{PARENT_RUN}` = '{parent.id}' and tags.`{SOURCE_MODEL}` LIKE 'models:/%/sha256:%'"
    for run in search_all(parent.client.search_runs, [parent.experiment_id], unnumbered):
        for key, value in run.data.tags.items():
            if (text := numbered(value, version)) != value:
                parent.client.set_tag(run.info.run_id, key, text)


def _run_of(parent: Run, entry: Entry) -> Run:
    """The run that trained the strategy, if it belongs to this parent; else a new child that says where it is."""
    role = "target" if entry.kind == "transfer" else "baseline"
    tags = {ROLE: role, STRATEGY: entry.strategy}
    if entry.source:
        tags[SOURCE_MODEL] = unpinned(entry.source)
    if entry.run_id:
        if top_run(parent.client, entry.run_id) == parent.id:
            return replace(parent, id=entry.run_id, parent_id=parent.id)
        tags[REUSED_FROM] = entry.run_id
    reused = child_run(parent, entry.strategy, tags)
    reused.log_metrics({"time/seconds": entry.seconds, f"val/best_{entry.metric}": entry.validation})
    return reused


@explained()
def prepare_views(parent: Run, board: Leaderboard) -> None:
    """Writes the parent's description and its artifact leaderboard.json; the entries of `board` name their runs.

    Doing it again replaces both, where `MlflowClient.log_table` would append.
    """
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
