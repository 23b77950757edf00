"""The ranking of the candidates for the source."""

from collections.abc import Mapping
from typing import Any

from headstart.judging.report.judgement import Context, Judgement
from headstart.metrics.intervals import Interval
from headstart.models.reference import unpinned

# The scores of a source beside its probe, in the order they are shown, and their titles.
_SCORES = {
    "knn": "kNN",
    "logme": "LogME",
    "h_score": "H-score",
    "leep": "LEEP",
    "nleep": "NLEEP",
    "source_accuracy": "own accuracy",
    "confirmed": "short fine-tune",
}


def section(judgement: Judgement) -> Context | None:
    """The candidates, with the scores that at least one of them has."""
    ranking = judgement.ranking
    if not ranking:
        return None
    shown = [key for key in _SCORES if any(each.get(key) is not None for each in ranking)]
    rows = [
        {
            "source": unpinned(each["source"]),
            "architecture": each.get("architecture", ""),
            # KFP carries whole numbers as floats.
            "parameters": int(each.get("parameters") or 0),
            "probe": _probe(each),
            "scores": [each.get(key) for key in shown],
            "seconds": each.get("seconds"),
            "chosen": each.get("chosen", number == 0),
            "overlap": int(sum((each.get("overlap") or {}).values())),
            "complete": each.get("overlap_complete", True),
        }
        for number, each in enumerate(ranking)
    ]
    return {"rows": rows, "titles": [_SCORES[key] for key in shown], "reason": judgement.ranking_reason}


def _probe(candidate: Mapping[str, Any]) -> Interval | None:
    probe, error = candidate["probe"], candidate.get("probe_error", 0.0)
    if probe is None:
        return None
    return Interval(
        probe, candidate.get("probe_low", probe - 2 * error), candidate.get("probe_high", probe + 2 * error)
    )
