"""The parts of test items that predictions rest on, and the training samples that they resemble."""

from headstart.judging.report.judgement import Context, Judgement


def section(judgement: Judgement) -> Context | None:
    found = judgement.diagnostics.explained
    return vars(found) if found else None
