"""The accuracy on corrupted samples, beside that of scratch."""

from headstart.judging.report.judgement import Context, Judgement
from headstart.judging.robustness import SEVERITIES


def section(judgement: Judgement) -> Context | None:
    found, scratch = judgement.diagnostics.robustness, judgement.diagnostics.scratch_robustness
    if found is None:
        return None
    others = {row.corruption: row.accuracies for row in scratch.corrupted} if scratch else {}
    return {
        "items": found.items,
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
                    for number, own in enumerate(row.accuracies)
                ],
            }
            for row in sorted(found.corrupted, key=lambda row: row.accuracies[-1].value)
        ],
    }
