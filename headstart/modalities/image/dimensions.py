"""Dimensions: the sizes of a data set's pictures, and the loss where the centred square of each is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.html import render
from headstart.modalities.histogram import Histogram, histogram
from headstart.modalities.image.section import Fit

_MOST_BARS = 40
_PIXELS_OF_A_BAR = 4
_RATIOS = ((1, 1), (2, 1), (3, 2), (4, 3), (16, 9), (3, 1), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1))


@dataclass(frozen=True)
class Dimensions:
    """The report's figures on the sizes of the pictures.

    `alike` is (width, height) where all have the same. `shorter` and `aspects` are (least, median, largest) of the
    shorter side in pixels and of width over height, each with its histogram, which is None where all values are equal.
    `enlarged` is the share of pictures whose shorter side is below `stored` pixels. `lost` is the median, and
    `lost_by_tenth` the ninth decile, of the share of a picture's area that lies outside of its centred square.
    """

    stored: int
    alike: tuple[int, int] | None
    shorter: tuple[float, float, float]
    enlarged: float
    sides: Histogram | None
    aspects: tuple[float, float, float]
    lost: float
    lost_by_tenth: float
    ratios: Histogram | None

    @classmethod
    def of(cls, dimensions: np.ndarray | Sequence[tuple[int, int]], stored: int) -> "Dimensions":
        """The figures on pictures by width and height in pixels, int (N, 2), at least one, that are stored as squares
        of `stored` pixels."""
        table = np.asarray(dimensions, dtype=np.int64)
        shorter, longer = table.min(axis=1), table.max(axis=1)
        aspects = table[:, 0] / table[:, 1]
        lost = 1 - shorter / longer
        return cls(
            stored=stored,
            alike=(int(table[0, 0]), int(table[0, 1])) if (table == table[0]).all() else None,
            shorter=_summary(shorter),
            enlarged=float((shorter < stored).mean()),
            sides=_sides(shorter, stored) if shorter.min() < shorter.max() else None,
            aspects=_summary(aspects),
            lost=float(np.median(lost)),
            lost_by_tenth=float(np.quantile(lost, 0.9)),
            ratios=_ratios(aspects) if aspects.min() < aspects.max() else None,
        )


def render_dimensions(sizes: np.ndarray, stored: int, fit: Fit = "crop") -> str:
    """The section of a data set's report on pictures by width and height, int (N, 2), brought by `fit` into squares of
    `stored` pixels."""
    return render("modalities/image/report.html", dimensions=Dimensions.of(sizes, stored), fit=fit)


def _summary(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def _sides(values: np.ndarray, stored: int) -> Histogram:
    """Bars have an edge at `stored`, so that none is both enlarged and not; at least half an octave is shown on each
    side of it."""
    small = float(np.quantile(values, 0.01))
    for per_octave in (16, 8, 4, 2, 1):
        bins = np.floor(per_octave * np.log2(values / stored) + 1e-9).astype(np.int64)
        least = max(1, per_octave // 2)
        low, high = min(int(bins.min()) - 1, -least), max(int(bins.max()) + 2, least)
        # Of bars of few pixels, neighbours stand for different numbers of whole ones and look like teeth.
        if high - low <= _MOST_BARS and small * (2 ** (1 / per_octave) - 1) >= _PIXELS_OF_A_BAR:
            break
    # Powers of two, and between them where few are in sight.
    factors = (1, 1.5, 1.25, 1.75) if high - low < 3 * per_octave else (1,)
    wanted = [factor * 2**power for factor in factors for power in range(2, 20)]
    labels = [(side, f"{side:.0f}") for side in wanted]
    edges = [stored * 2 ** (number / per_octave) for number in range(low, high + 1)]
    return histogram(bins - low, edges, labels, mark=stored, whole=True)


def _ratios(values: np.ndarray) -> Histogram:
    """A bar stands over the square, and at least half an octave is shown on each side of it."""
    for per_octave in (16, 8, 4, 2, 1):
        bins = np.round(per_octave * np.log2(values)).astype(np.int64)
        least = max(1, per_octave // 2)
        low, high = min(int(bins.min()) - 1, -least), max(int(bins.max()) + 1, least)
        if high - low < _MOST_BARS:
            break
    labels = []
    for one, other in _RATIOS:
        labels += [(one / other, f"{one}:{other}"), (other / one, f"{other}:{one}")]
    edges = [2 ** ((number - 0.5) / per_octave) for number in range(low, high + 2)]
    return histogram(bins - low, edges, labels, mark=1.0)
