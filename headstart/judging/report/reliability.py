"""How far the model's confidence can be relied on: the reliability diagram and selective prediction."""

import numpy as np

from headstart.charts import Axis, polyline
from headstart.judging.reliability import Bin, Selective
from headstart.judging.report.judgement import Context, Judgement

# A long test split has more points than a screen has pixels.
_POINTS = 300


def section(judgement: Judgement) -> Context | None:
    if "ece" not in judgement.diagnostics.intervals:
        return None
    found, unit = judgement.diagnostics, Axis(0.0, 1.0, 0.2)
    return {
        "reliability": {"axis": unit, "bins": [_bin(each, unit) for each in found.bins]},
        "selective": _selective(found.selective, unit) if found.selective else None,
        "ece": found.intervals["ece"],
        "temperature": found.temperature,
    }


def _bin(each: Bin, unit: Axis) -> Context:
    heights = {name: round(100 - unit.at(getattr(each.accuracy, name)), 2) for name in ("value", "low", "high")}
    return {
        "centre": unit.at(each.confidence),
        **heights,
        "items": each.items,
        "confidence": each.confidence,
        "accuracy": each.accuracy,
    }


def _selective(found: Selective, x: Axis) -> Context:
    shown = np.unique(np.linspace(0, len(found.coverage) - 1, _POINTS).round().astype(int))
    y = Axis.spanning([0.0, float(found.risk.max())])
    return {
        "x": x,
        "y": y,
        "line": polyline([(float(found.coverage[i]), float(found.risk[i])) for i in shown], x, y),
        "aurc": found.aurc,
        "oracle": found.oracle,
        "at": [(coverage, found.risk_at(coverage)) for coverage in (0.5, 0.8, 0.9, 1.0)],
        "at_risk": [(risk, found.coverage_at(risk)) for risk in (0.01, 0.02, 0.05)],
    }
