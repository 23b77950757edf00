"""Histograms over a logarithmic scale, as reports on data sets draw them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headstart.charts import Axis, LogAxis

# Shares of a chart's width: a tick's label needs as much, on a telephone too.
_ROOM = 10.0
# Of lengths in characters.
_MOST_BARS = 40
_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000, 10_000_000)


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


def lengths(characters: np.ndarray, stored: int) -> Histogram:
    """Samples by their number of characters, int (N,); bars have an edge at `stored`."""
    for per_octave in (4, 2, 1):
        bins = np.floor(per_octave * np.log2(np.maximum(characters, 1) / stored) + 1e-9).astype(int)
        low, high = min(int(bins.min()), -1) - 1, max(int(bins.max()), 0) + 2
        if high - low <= _MOST_BARS:
            break
    edges = [stored * 2 ** (number / per_octave) for number in range(low, high + 1)]
    labels = [(float(value), f"{value:,}".replace(",", "\u202f")) for value in _TICKS]
    return histogram(bins - low, edges, labels, mark=stored, whole=True)
