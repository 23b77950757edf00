"""The ranking of the candidates for the source."""

from collections.abc import Mapping
from typing import Any

from headstart.features.score import SCORES
from headstart.judging.report.judgement import Context, Judgement
from headstart.metrics.intervals import Interval
from headstart.models.reference import unpinned


def section(judgement: Judgement) -> Context | None:
    """The candidates, with the scores that at least one of them has."""
    ranking = judgement.ranking
    if not ranking:
        return None
    titles = _titles()
    shown = [key for key in titles if any(each.get(key) is not None for each in ranking)]
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
    return {"rows": rows, "titles": [titles[key] for key in shown], "reason": judgement.ranking_reason}


def _titles() -> dict[str, str]:
    """The titles of a source's scores beside its probe, in the order they are shown."""
    scores = {name: SCORES[name].title for name in SCORES.in_order()}
    return {"knn": "kNN", **scores, "source_accuracy": "own accuracy", "confirmed": "short fine-tune"}


def _probe(candidate: Mapping[str, Any]) -> Interval | None:
    probe, error = candidate["probe"], candidate.get("probe_error", 0.0)
    if probe is None:
        return None
    return Interval(
        probe, candidate.get("probe_low", probe - 2 * error), candidate.get("probe_high", probe + 2 * error)
    )
