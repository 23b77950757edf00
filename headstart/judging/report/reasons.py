"""Why the transfer helped or not."""

from typing import Any

from headstart.judging.report.judgement import Judgement


def section(judgement: Judgement) -> dict[str, Any]:
    return {"reasons": judgement.diagnostics.reasons}
