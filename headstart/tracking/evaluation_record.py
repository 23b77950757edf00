"""Record of an assessment in MLflow: test metrics on each strategy's run, the verdict on the pipeline run's parent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headstart.data.dataset import SPLITS, Dataset
from headstart.judging.assessment import Assessment
from headstart.judging.leaderboard import Entry, Leaderboard
from headstart.judging.pictures import confusion_picture, leaderboard_picture, learning_curve_picture
from headstart.metrics.intervals import Interval
from headstart.models.bundle import bundle_digest
from headstart.models.reference import numbered, unpinned
from headstart.tracking.client import explained, search_all
from headstart.tracking.experiment_note import describe_experiment
from headstart.tracking.mlflow_pages import charts_page, compare_page, curves_page
from headstart.tracking.names import (
    CHOSEN,
    DELIVERED,
    FACTS,
    LEADERBOARD,
    MEMBERS,
    MODEL_DIGEST,
    NOTE,
    PARENT_RUN,
    REPORT,
    ROLE,
    SAME_AS,
    SENTENCE,
    SOURCE_MODEL,
    STRATEGY,
    TIES,
    VERDICT,
)
from headstart.tracking.runs import Run, child_run, top_run

# Tag that lists the artifacts which MLflow's page shows as tables.
_LISTED_TABLES = "mlflow.loggedArtifacts"
_LEADERBOARD, _INTERVALS = "leaderboard.json", "intervals.json"


def record_assessment(
    run: Run,
    assessment: Assessment,
    report: str,
    predictions: Path,
    *,
    intervals: Mapping[str, Interval] = MappingProxyType({}),
    dataset: Dataset | None = None,
    source_version: str = "",
) -> Assessment:
    """Write the result of `evaluate` and its report, an HTML page; `run` is the run of the evaluation step.

    The interval of the metric that decides is among each run's metrics; `intervals`, of every metric of the chosen
    contender, become a table.

    Every run shows as its data the splits of `dataset` that it was judged by, beside those that it learned from.

    Runs that reference this pipeline run's source by digest, because it was not registered yet, are updated to
    `source_version`, the pinned reference with its version number.

    A strategy reused from an earlier pipeline run gets a new run below this parent, which links to the run that did the
    work and has its parameters and curves, so that every parent has all of its children. Returns the assessment with
    the ids of the runs written to.
    """
    parent = replace(run, id=run.parent_id or run.id, parent_id=None)
    board = assessment.leaderboard
    run_ids = {}
    for entry in board.entries:
        history = assessment.history.get(entry.strategy, ())
        target = _run_of(parent, entry, history)
        is_new = target.id != entry.run_id
        run_ids[entry.strategy] = target.id
        if dataset:
            target.log_data(dataset, SPLITS if is_new else ("test",))
        target.log_metrics(assessment.figures(entry.strategy))
        target.log_artifact(predictions / f"{entry.strategy}.parquet")
        _log_pictures(target, assessment, entry, history)
        target.set_tags({CHOSEN: str(entry.chosen).lower(), **_told({VERDICT: entry.verdict, SAME_AS: entry.same_as})})
        if entry.members:
            (combination,) = (each for each in assessment.contenders if each.strategy == entry.strategy)
            target.set_tags({MODEL_DIGEST: bundle_digest(combination.path)})
        if is_new:
            parent.client.set_terminated(target.id, "FINISHED")
    entries = tuple(replace(entry, run_id=run_ids[entry.strategy]) for entry in board.entries)
    assessment = replace(assessment, leaderboard=replace(board, entries=entries))
    if dataset:
        parent.log_data(dataset, SPLITS)
    _record_on_parent(parent, assessment, report, intervals)
    if source_version:
        _number_source(parent, source_version)
    return assessment


def _record_on_parent(parent: Run, assessment: Assessment, report: str, intervals: Mapping[str, Interval]) -> None:
    """Write the verdict, the leaderboard and the report."""
    board = assessment.leaderboard
    parent.log_metrics(assessment.figures(board.chosen.strategy))
    parent.set_tags(
        {
            STRATEGY: board.chosen.strategy,
            DELIVERED: board.delivered_entry.strategy,
            **_told({VERDICT: board.verdict, TIES: ", ".join(board.ties)}),
        }
    )
    parent.log_picture("leaderboard.svg", leaderboard_picture(board))
    parent.log_page(REPORT, report)
    parent.log_json(LEADERBOARD, json.loads(board.to_json()))
    prepare_views(parent, board, intervals)
    describe_experiment(parent.client, parent.experiment_id, board.metric)


@explained()
def _number_source(parent: Run, version: str) -> None:
    unnumbered = f"tags.`{PARENT_RUN}` = '{parent.id}' and tags.`{SOURCE_MODEL}` LIKE 'models:/%/sha256:%'"
    for run in search_all(parent.client.search_runs, [parent.experiment_id], unnumbered):
        for key, value in run.data.tags.items():
            if (text := numbered(value, version)) != value:
                parent.client.set_tag(run.info.run_id, key, text)


def _told(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tags that say something."""
    return {key: value for key, value in tags.items() if value}


def _log_pictures(run: Run, assessment: Assessment, entry: Entry, history: Sequence[Mapping[str, float]]) -> None:
    if curve := learning_curve_picture(history, entry.metric):
        run.log_picture("learning_curve.svg", curve)
    metrics = assessment.metrics[entry.strategy]
    if "confusion" in metrics:
        run.log_picture("confusion.svg", confusion_picture(metrics))


def _run_of(parent: Run, entry: Entry, history: Sequence[Mapping[str, float]]) -> Run:
    """Return the run that trained the strategy if it is below this parent; else a new child that links to it, or, for a
    combination, which nothing trained, names its members."""
    role = "target" if entry.kind == "transfer" else "baseline"
    tags = {ROLE: role, STRATEGY: entry.strategy}
    if entry.source:
        tags[SOURCE_MODEL] = unpinned(entry.source)
    if entry.members:
        tags[MEMBERS] = ", ".join(entry.members)
    if entry.run_id and top_run(parent.client, entry.run_id) == parent.id:
        return replace(parent, id=entry.run_id, parent_id=parent.id)
    reused = child_run(parent, entry.strategy, tags)
    if entry.run_id:
        reused.link_origin(entry.run_id)
    reused.log_epochs(history)
    reused.log_metrics({"time/seconds": entry.seconds, f"val/best_{entry.metric}": entry.validation})
    return reused


@explained()
def prepare_views(parent: Run, board: Leaderboard, intervals: Mapping[str, Interval] = MappingProxyType({})) -> None:
    """Write the parent's description and its tables; the entries of `board` name their runs.

    A repeated call replaces all; `MlflowClient.log_table` would append.
    """
    tables = {_LEADERBOARD: leaderboard_table(board)}
    if intervals:
        tables[_INTERVALS] = intervals_table(intervals)
    for name, table in tables.items():
        parent.client.log_dict(parent.id, table, name)
    parent.set_tags(
        {
            NOTE: description(parent, board),
            SENTENCE: board.sentence,
            FACTS: "\n".join(board.facts.values()),
            _LISTED_TABLES: json.dumps([{"path": name, "type": "table"} for name in tables]),
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


def intervals_table(intervals: Mapping[str, Interval]) -> dict[str, list[Any]]:
    """Return the chosen contender's metrics on the test split with the bounds of their intervals, in the same form."""
    return {
        "columns": ["metric", "value", "low", "high"],
        "data": [[name, *(round(each, 4) for each in found.to_list())] for name, found in intervals.items()],
    }
