"""Why the transfer helped or not."""

from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context | None:
    return {"reasons": judgement.diagnostics.reasons} if judgement.diagnostics.reasons else None
