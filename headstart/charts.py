"""Geometry of the report's charts, in percent of a drawing's width and height, so that they scale to every screen."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high`, both multiples of `step`, the distance of its ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def spanning(cls, values: Iterable[float], intervals: int = 4, least_step: float = 0.0) -> "Axis":
        """Return the axis that holds all values, with about `intervals` steps of 1, 2 or 5 times a power of ten.

        No step is smaller than `least_step`; if all values are equal, it extends beyond them on both sides.
        """
        values = list(values)
        smallest, largest = min(values), max(values)
        if largest - smallest < 1e-6:
            smallest, largest = smallest - 0.05, largest + 0.05
        rough = max((largest - smallest) / intervals, least_step)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        # The tolerance prevents 0.3 / 0.1 = 2.9999999999999996 from adding or losing a step.
        return cls(math.floor(smallest / step + 1e-9) * step, math.ceil(largest / step - 1e-9) * step, step)

    @property
    def ticks(self) -> list[float]:
        """Every multiple of `step` from `low` to `high`."""
        return [self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1)]

    def at(self, value: float) -> float:
        """Return the position of `value` between low (0) and high (100)."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def label(self, value: float, signed: bool = False) -> str:
        """Format `value` with the decimals that distinguish two ticks."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        # Adding 0.0 turns the -0.0 that rounding leaves into 0.0.
        value = round(value, decimals) + 0.0
        return f"{value:{'+' if signed and value else ''}.{decimals}f}"


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic scale over the ascending `ticks`, all above 0."""

    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the position of `value` between the first tick (0) and the last (100); 50 if there is only
        one tick."""
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return round(100 * (math.log(value) - low) / (high - low), 2) if high > low else 50.0

    def label(self, value: float, signed: bool = False) -> str:
        """Format `value` without trailing zeros."""
        return f"{value:{'+' if signed else ''},g}"


def polyline(points: Sequence[tuple[float, float]], x: Axis | LogAxis, y: Axis) -> str:
    """Return the `points` attribute of an SVG polyline in a 100 by 100 box, y upwards."""
    if len(points) == 1:
        # A line of zero length is drawn as a dot by its round caps; a single point is not drawn.
        points = [*points, *points]
    return " ".join(f"{x.at(along):g},{100 - y.at(up):g}" for along, up in points)


def recorded(history: Iterable[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Return the (epoch, value) of what a training recorded under `name`; values that are no finite numbers are left
    out."""
    return [(row["epoch"], row[name]) for row in history if row.get(name) is not None and math.isfinite(row[name])]


def heat(shares: np.ndarray) -> np.ndarray:
    """Return opacities for shares in (0, 1] of a row; the square root and the offset keep rare confusions visible."""
    return np.round(0.15 + 0.85 * np.sqrt(shares), 2)


def heat_paths(shares: np.ndarray, levels: int = 6) -> list[tuple[float, str]]:
    """Return a heat map as (opacity, SVG path) pairs: unit squares at (column, row) of every share in (0, 1].

    shares: (K, K). One path for each of `levels` opacities keeps a matrix of a thousand classes small.
    """
    level_of = np.where(shares > 0, np.ceil(heat(shares) * levels), 0)
    return [
        (
            round(level / levels, 2),
            "".join(f"M{column} {row}h1v1h-1z" for row, column in np.argwhere(level_of == level)),
        )
        for level in range(1, levels + 1)
        if (level_of == level).any()
    ]
