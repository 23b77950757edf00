"""The parts of test items that predictions rest on, and the training samples that they resemble."""

from typing import Any

from headstart.judging.report.judgement import Judgement


def section(judgement: Judgement) -> dict[str, Any] | None:
    found = judgement.diagnostics.explained
    return vars(found) if found else None
