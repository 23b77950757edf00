"""What the transfer saves against scratch, and when the pretraining has paid for itself."""

from headstart.judging.report.judgement import Context, Judgement
from headstart.judging.savings import Saving


def section(judgement: Judgement) -> Context | None:
    found = judgement.assessment.savings.get(judgement.board.chosen.strategy)
    if found is None:
        return None
    return {"saving": found, "times": found.scratch.seconds / found.transfer.seconds, "pays": _pays(found)}


def _pays(found: Saving) -> str:
    """When the pretraining pays, as a sentence; "" where its seconds are not known."""
    if found.pretraining is None:
        return ""
    if found.targets is None:
        return "Pretraining never pays for itself in seconds: scratch is as fast to the same accuracy."
    if found.targets == 1:
        return "The pretraining has paid for itself with this one target."
    return f"The pretraining has paid for itself after {found.targets:,} targets like this one."
