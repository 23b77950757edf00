"""The accuracy, or the mean average precision of labels, on corrupted samples, beside that of scratch."""

from headstart.judging.report.judgement import Context, Judgement
from headstart.judging.robustness import SEVERITIES
from headstart.metrics.metric import metric_title


def section(judgement: Judgement) -> Context | None:
    found, scratch = judgement.diagnostics.robustness, judgement.diagnostics.scratch_robustness
    if found is None:
        return None
    others = {row.corruption: row.values for row in scratch.corrupted} if scratch else {}
    return {
        "items": found.items,
        "metric": metric_title(found.metric),
        "clean": found.clean,
        "scratch_clean": scratch.clean if scratch else None,
        "mean": found.mean,
        "scratch_mean": scratch.mean if scratch else None,
        "severities": SEVERITIES,
        "rows": [
            {
                "corruption": row.corruption,
                "cells": [
                    {"own": own, "scratch": others[row.corruption][number] if scratch else None}
                    for number, own in enumerate(row.values)
                ],
            }
            for row in sorted(found.corrupted, key=lambda row: row.values[-1].value)
        ],
    }
