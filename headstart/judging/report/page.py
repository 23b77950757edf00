"""The page that answers whether transfer helped, and shows why."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headstart.data.dataset import Dataset
from headstart.html import render
from headstart.judging.assessment import Assessment
from headstart.judging.diagnostics import Diagnostics
from headstart.judging.report import (
    confusion,
    data_efficiency,
    explanation,
    figures,
    labels,
    leaderboard,
    metrics,
    next_steps,
    numbers,
    provenance,
    ranking,
    reasons,
    reliability,
    robustness,
    savings,
    training,
    verdict,
)
from headstart.judging.report.glossary import term
from headstart.judging.report.judgement import Judgement
from headstart.judging.report.provenance import data_facts
from headstart.metrics.metric import metric_title
from headstart.models.reference import unpinned

# What the list of contents calls the sections that it leads to.
_CONTENTS = {
    "reasons": "Why",
    "next_steps": "Next",
    "leaderboard": "Leaderboard",
    "data_efficiency": "Labels",
    "confusion": "Mistakes",
    "labels": "Each label",
    "numbers": "Errors",
    "reliability": "Confidence",
    "robustness": "Corruption",
    "explanation": "Explanations",
    "training": "Training",
    "savings": "Savings",
    "ranking": "Sources",
    "provenance": "Data and lineage",
}

# In the page's order. Each has a template beside it, and a function that gives the template's values, or None where the
# section is left out.
_SECTIONS = (
    verdict, reasons, next_steps, figures, leaderboard, metrics, data_efficiency, confusion, labels, numbers,
    reliability, robustness, explanation, training, savings, ranking, provenance,
)  # fmt: skip


def render_report(judgement: Judgement) -> str:
    """One self-contained HTML page."""
    board = judgement.board
    found = {each.__name__.rpartition(".")[2]: each.section(judgement) for each in _SECTIONS}
    return render(
        "judging/report/page.html",
        name=judgement.experiment,
        board=board,
        chosen=board.chosen,
        metric=metric_title(board.metric),
        metrics=judgement.metrics,
        level=f"{100 * board.confidence:g}%",
        sections={name: section for name, section in found.items() if section is not None},
        contents={name: title for name, title in _CONTENTS.items() if found[name] is not None},
        made=datetime.now(UTC),
        term=term,
    )


def report(
    assessment: Assessment,
    diagnostics: Diagnostics,
    dataset: Dataset,
    *,
    experiment: str,
    source: Mapping[str, Any],
    run_id: str,
    tracking_uri: str,
) -> str:
    """The page about an assessment.

    `source` is the metadata of the source that the strategies started from, `run_id` the MLflow run that holds the
    resolved recipe, at `tracking_uri` (without a password: the page is shown around).
    """
    best = assessment.leaderboard.chosen
    return render_report(
        Judgement(
            experiment,
            assessment,
            diagnostics,
            data=data_facts(dataset),
            lineage={
                "Source model": unpinned(source["source"]),
                "Source digest": source["digest"],
                "Chosen model": f"{best.strategy}, run {best.run_id}" if best.run_id else None,
                "Pipeline run": run_id,
            },
            reproduction=f"export MLFLOW_TRACKING_URI={tracking_uri}\n"
            f"mlflow artifacts download -r {run_id} -a recipe.json -d .\n"
            "headstart run recipe.json",
            ranking=source.get("ranking", []),
            ranking_reason=" ".join([source.get("reason", ""), *source.get("warnings", [])]).strip(),
        )
    )
