"""The data-efficiency curve as a drawing, a table and sentences."""

from headstart.charts import Axis, LogAxis, polyline
from headstart.judging.data_efficiency import SEEDS, Curve, Series
from headstart.judging.report.judgement import Context, Judgement

_STYLES = {"transfer": ("gain-0", "gain-1", "gain-2"), "baseline": ("base-0", "base-1", "base-2")}


def section(judgement: Judgement) -> Context | None:
    curve, board = judgement.diagnostics.curve, judgement.board
    if curve is None:
        return None
    x = LogAxis(tuple(float(size) for size in curve.sizes))
    scores = [score for series in curve.series for point in series.points for score in point.scores]
    y = Axis.spanning([*scores, *(entry.value for entry in board.entries)])
    styles = {kind: iter(names) for kind, names in _STYLES.items()}
    return {
        "x": x,
        "y": y,
        "sizes": curve.sizes,
        "complete": curve.complete,
        "lines": [{"style": next(styles[series.kind]), **_line(series, x, y)} for series in curve.series],
        "ends": [(entry.strategy, entry.kind, _height(entry.value, y), entry.chosen) for entry in board.entries],
        "sentences": _sentences(curve),
        "trained": any(series.trained for series in curve.series),
        "draws": SEEDS,
        "seconds": curve.seconds,
    }


def _height(value: float, y: Axis) -> float:
    return round(100 - y.at(value), 2)


def _line(series: Series, x: LogAxis, y: Axis) -> Context:
    return {
        "name": series.name,
        "line": polyline([(point.labels_per_class, point.mean) for point in series.points], x, y),
        "ranges": [
            (x.at(each.labels_per_class), _height(min(each.scores), y), _height(max(each.scores), y))
            for each in series.points
        ],
        "cells": [(each.mean, min(each.scores), max(each.scores)) for each in series.points],
    }


def _sentences(curve: Curve) -> list[str]:
    """Where each baseline catches up with the best start from the source."""
    trained = any(series.trained for series in curve.series)
    start = "the best start from the source" if trained else "the source's frozen features"
    sentences = []
    for each in curve.catch_ups:
        if each.labels_per_class is None:
            sentences.append(f"{each.baseline} is behind {start} with {curve.sizes[-1]} labels a class.")
        elif each.labels_per_class <= curve.sizes[0]:
            few = f"{curve.sizes[0]} label{'' if curve.sizes[0] == 1 else 's'}"
            sentences.append(f"{each.baseline} is as good as {start} from {few} a class on.")
        else:
            labels = f"{each.labels_per_class:.0f} labels a class"
            sentences.append(f"{each.baseline} catches up with {start} at about {labels}.")
    return sentences
