"""The page about a source on the test split of its own data."""

from collections.abc import Mapping
from typing import Any

from headstart.data.dataset import Dataset
from headstart.html import render
from headstart.judging.report.confusion import confusion
from headstart.judging.report.provenance import data_facts, shown_facts
from headstart.metrics.metric import metric_title
from headstart.models.bundle import ModelBundle

_FIGURES = {
    **{name: metric_title(name) for name in ("accuracy", "balanced_accuracy", "macro_precision", "macro_f1")},
    **{name: metric_title(name) for name in ("mean_average_precision", "micro_f1")},
    "ece": "calibration error",
    **{name: metric_title(name) for name in ("mae", "rmse", "r2")},
    "coverage": "share of items within their interval",
}


def render_source_report(
    name: str, sentence: str, metrics: Mapping[str, Any] | None, bundle: ModelBundle, dataset: Dataset
) -> str:
    """One self-contained HTML page; `metrics` are `Predictions.figures`, None where the data has no labels."""
    objective = bundle.provenance.get("objective")
    facts = {
        "Architecture": bundle.architecture,
        "Objective": f"{objective}, without labels" if objective else None,
        **data_facts(dataset),
    }
    return render(
        "judging/report/source.html",
        name=name,
        sentence=sentence,
        metrics=metrics,
        facts=shown_facts(facts),
        figures=[(title, metrics[name]) for name, title in _FIGURES.items() if metrics and name in metrics],
        confusion=confusion(metrics) if metrics and "confusion" in metrics else None,
    )
