"""Why the transfer helped or not."""

from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context:
    return {"reasons": judgement.diagnostics.reasons}
