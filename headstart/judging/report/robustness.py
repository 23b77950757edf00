"""The accuracy, the mean average precision of labels or the error of numbers on corrupted samples, beside scratch's."""

from headstart.judging.report.judgement import Context, Judgement
from headstart.judging.robustness import SEVERITIES
from headstart.metrics.metric import METRICS, Metric, metric_title
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL

# What has its share among the items that are corrupted.
_NOUNS = {SINGLE_LABEL: "class", MULTI_LABEL: "label", REGRESSION: "range of the numbers"}


def section(judgement: Judgement) -> Context | None:
    found, scratch = judgement.diagnostics.robustness, judgement.diagnostics.scratch_robustness
    if found is None:
        return None
    metric = METRICS[found.metric]
    others = {row.corruption: row.values for row in scratch.corrupted} if scratch else {}
    return {
        "items": found.items,
        "metric": metric_title(found.metric),
        "noun": _NOUNS.get(metric.tasks[0]),
        "clean": found.clean,
        "scratch_clean": scratch.clean if scratch else None,
        "mean": found.mean,
        "scratch_mean": scratch.mean if scratch else None,
        "severities": SEVERITIES,
        "rows": [
            {
                "corruption": row.corruption,
                "cells": [
                    {
                        "own": own,
                        "scratch": others[row.corruption][number] if scratch else None,
                        "lost": _lost(own.value, found.clean.value, metric),
                    }
                    for number, own in enumerate(row.values)
                ],
            }
            for row in sorted(found.corrupted, key=lambda row: metric.merit(row.values[-1].value))
        ],
    }


def _lost(value: float, clean: float, metric: Metric) -> float:
    """How bad a value is, 0 to 1: of a share what it lacks of 1, of an error what it is more than that as they are."""
    if not metric.lower_is_better:
        return 1 - value
    return max(0.0, 1 - clean / value) if value else 0.0
