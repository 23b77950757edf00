"""How well each of several labels is told."""

from headstart.judging.report.judgement import Context, Judgement

_LISTED = 60


def section(judgement: Judgement) -> Context | None:
    found = judgement.diagnostics.labels
    if not found:
        return None
    # The weakest come first: what is told well needs no look.
    rows = sorted(found, key=lambda each: each.average_precision.value - each.frequency)
    return {"rows": rows[:_LISTED], "left_out": max(0, len(rows) - _LISTED)}
