"""Predicted against true numbers, and the errors in each range of these."""

import numpy as np

from headstart.charts import Axis
from headstart.judging.report.judgement import Context, Judgement

# More dots hide each other and make the page heavy.
_DOTS = 1500


def section(judgement: Judgement) -> Context | None:
    found = judgement.diagnostics.numbers
    if found is None:
        return None
    shown = np.unique(np.linspace(0, len(found.labels) - 1, _DOTS).round().astype(int))
    labels, predicted = found.labels[shown], found.predicted[shown]
    axis = Axis.spanning([float(of(each)) for each in (labels, predicted) for of in (np.min, np.max)], intervals=8)
    return {
        "axis": axis,
        "dots": [
            (axis.at(x), round(100 - axis.at(y), 2)) for x, y in zip(labels.tolist(), predicted.tolist(), strict=True)
        ],
        "band": None if found.margin is None else _band(100 * found.margin / (axis.high - axis.low)),
        "margin": found.margin,
        "promised": found.promised,
        "coverage": found.coverage,
        "held_out": found.held_out,
        "least": max(0.0, found.promised - found.spread),
        "most": min(1.0, found.promised + found.spread),
        "ranges": found.ranges,
        "shown": len(shown),
        "items": len(found.labels),
    }


def _band(margin: float) -> str:
    """The points |y - x| <= margin around the diagonal of a box of 100, whose y runs downwards."""
    margin = min(margin, 100.0)
    rest = 100 - margin
    return f"0,{rest:g} {rest:g},0 100,0 100,{margin:g} {margin:g},100 0,100"
