"""The data, the lineage, and the commands that give the result again."""

from collections.abc import Mapping

from headstart.data.dataset import SPLITS, Dataset
from headstart.judging.report.judgement import Context, Judgement
from headstart.metrics.task import MULTI_LABEL, SINGLE_LABEL


def section(judgement: Judgement) -> Context:
    return {
        "data": shown_facts(judgement.data),
        "lineage": shown_facts(judgement.lineage),
        "reproduction": judgement.reproduction,
    }


def shown_facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Labels and values as text; None is left out."""
    return [
        (label, f"{value:,}" if isinstance(value, int) else str(value))
        for label, value in facts.items()
        if value is not None
    ]


def data_facts(dataset: Dataset) -> dict[str, object]:
    """The facts about a data set that reports show."""
    return {
        "Data": dataset.manifest["source"]["uri"],
        "Digest": dataset.digest,
        "Task": dataset.task if dataset.task != SINGLE_LABEL else None,
        "Labels": len(dataset.classes) if dataset.task == MULTI_LABEL else None,
        "Classes": None if dataset.task != SINGLE_LABEL else len(dataset.classes) or "none, its samples have no labels",
        "Training / validation / test samples": " / ".join(str(dataset.counts[name]) for name in SPLITS),
    }
