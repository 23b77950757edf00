"""Histograms over a logarithmic scale, as reports on data sets draw them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headstart.charts import Axis, LogAxis

# Shares of a chart's width: a tick's label needs as much, on a telephone too.
_ROOM = 10.0


@dataclass(frozen=True)
class Bar:
    """`count` samples with values from `low` to `high`. `left` and `width` are percent of the chart's width, `height`
    percent of its height; `short` says that the values are below the chart's mark."""

    low: float
    high: float
    count: int
    left: float
    width: float
    height: float
    short: bool


@dataclass(frozen=True)
class Histogram:
    """Counts over a logarithmic scale. `ticks` are percent of the width, each with its label; `mark` is the place of
    the value that the others are compared with."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    counts: Axis
    mark: float


def histogram(
    bins: np.ndarray, edges: list[float], labels: Iterable[tuple[float, str]], *, mark: float, whole: bool = False
) -> Histogram:
    """`bins` counts from the first of the `edges`; of the `labels`, the first ones that have room are shown. With
    `whole`, values are whole numbers."""
    found = sorted(Counter(bins.tolist()).items())
    counts = Axis.spanning([0, max(count for _, count in found)], intervals=4, least_step=1)
    width = 100 / (len(edges) - 1)
    bars = []
    for number, count in found:
        low, high = edges[number], edges[number + 1]
        if whole:
            low, high = math.ceil(low - 1e-6), math.ceil(high - 1e-6) - 1
        bars.append(
            Bar(
                low, high, count, round(number * width, 3), round(width, 3), counts.at(count), edges[number + 1] <= mark
            )
        )
    axis = LogAxis((edges[0], edges[-1]))
    ticks: list[tuple[float, str]] = []
    for value, label in labels:
        if edges[0] < value < edges[-1] and all(abs(axis.at(value) - place) >= _ROOM for place, _ in ticks):
            ticks.append((axis.at(value), label))
    return Histogram(bars, sorted(ticks), counts, axis.at(mark))
