"""Record of an assessment in MLflow: test metrics on each strategy's run, the verdict on the pipeline run's parent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.judging.assessment import Assessment
from headstart.judging.leaderboard import Entry, Leaderboard
from headstart.models.bundle import bundle_digest
from headstart.models.reference import numbered, unpinned
from headstart.tracking.client import explained, search_all
from headstart.tracking.mlflow_pages import charts_page, compare_page, curves_page
from headstart.tracking.names import (
    CHOSEN,
    DELIVERED,
    FACTS,
    MEMBERS,
    MODEL_DIGEST,
    NOTE,
    PARENT_RUN,
    REUSED_FROM,
    ROLE,
    SAME_AS,
    SENTENCE,
    SOURCE_MODEL,
    STRATEGY,
    TIES,
    VERDICT,
)
from headstart.tracking.runs import Run, child_run, top_run

# Artifacts of a pipeline run's parent: the complete leaderboard (the table leaderboard.json is its view in MLflow's
# page) and the report with the verdict.
LEADERBOARD = "assessment.json"
REPORT = "report.html"
# Tag that lists the artifacts which MLflow's page shows as tables.
_LISTED_TABLES = "mlflow.loggedArtifacts"
_LEADERBOARD = "leaderboard.json"


def record_assessment(
    run: Run, assessment: Assessment, report: str, predictions: Path, *, source_version: str = ""
) -> Assessment:
    """Write the result of `evaluate` and its report, an HTML page; `run` is the run of the evaluation step.

    Runs that reference this pipeline run's source by digest, because it was not registered yet, are updated to
    `source_version`, the pinned reference with its version number.

    A strategy reused from an earlier pipeline run gets a new run below this parent, marked as reused, so that every
    parent has all of its children. Returns the assessment with the ids of the runs written to.
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
        if entry.members:
            (combination,) = (each for each in assessment.contenders if each.strategy == entry.strategy)
            target.set_tags({MODEL_DIGEST: bundle_digest(combination.path)})
        if target.id != entry.run_id:
            parent.client.set_terminated(target.id, "FINISHED")
    entries = tuple(replace(entry, run_id=run_ids[entry.strategy]) for entry in board.entries)
    board = replace(board, entries=entries)
    parent.log_metrics(assessment.figures(board.chosen.strategy))
    parent.set_tags(
        {
            VERDICT: board.verdict or "",
            STRATEGY: board.chosen.strategy,
            DELIVERED: board.delivered_entry.strategy,
            TIES: ", ".join(board.ties),
        }
    )
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
    """Return the run that trained the strategy if it is below this parent; else a new child that names it, as for a
    combination, which nothing trained."""
    role = "target" if entry.kind == "transfer" else "baseline"
    tags = {ROLE: role, STRATEGY: entry.strategy}
    if entry.source:
        tags[SOURCE_MODEL] = unpinned(entry.source)
    if entry.members:
        tags[MEMBERS] = ", ".join(entry.members)
    if entry.run_id:
        if top_run(parent.client, entry.run_id) == parent.id:
            return replace(parent, id=entry.run_id, parent_id=parent.id)
        tags[REUSED_FROM] = entry.run_id
    reused = child_run(parent, entry.strategy, tags)
    reused.log_metrics({"time/seconds": entry.seconds, f"val/best_{entry.metric}": entry.validation})
    return reused


@explained()
def prepare_views(parent: Run, board: Leaderboard) -> None:
    """Write the parent's description and its artifact leaderboard.json; the entries of `board` name their runs.

    A repeated call replaces both; `MlflowClient.log_table` would append.
    """
    parent.client.log_dict(parent.id, leaderboard_table(board), _LEADERBOARD)
    parent.set_tags(
        {
            NOTE: description(parent, board),
            SENTENCE: board.sentence,
            FACTS: "\n".join(board.facts.values()),
            _LISTED_TABLES: json.dumps([{"path": _LEADERBOARD, "type": "table"}]),
        }
    )


def description(parent: Run, board: Leaderboard) -> str:
    """Return Markdown: the verdict with its figures, the contender that is delivered, the facts beside the verdict, and
    links to MLflow's views of the parent's strategies and baselines."""
    run_ids = [entry.run_id for entry in board.entries if entry.run_id]
    views = {
        "charts": charts_page(parent.experiment_id, parent.id, board.metric),
        "compare page": compare_page(parent.experiment_id, run_ids),
        f"val/{board.metric} by epoch": curves_page(parent.experiment_id, run_ids, f"val/{board.metric}"),
    }
    links = " · ".join(f"[{title}]({page})" for title, page in views.items())
    paragraphs = [
        f"**{board.verdict or 'unknown'}**: {board.explanation}",
        "\n".join(f"- {fact}" for fact in board.facts.values()),
        f"Delivered: {board.delivery}.",
        f"Strategies and baselines: {links}",
    ]
    return "\n\n".join(filter(None, paragraphs))


def leaderboard_table(board: Leaderboard) -> dict[str, list[Any]]:
    """Return the leaderboard in pandas' `orient="split"` form: column names, and one list of values for each row."""
    rows = board.rows()
    return {
        "columns": list(rows[0]),
        "data": [[round(value, 4) if isinstance(value, float) else value for value in row.values()] for row in rows],
    }
