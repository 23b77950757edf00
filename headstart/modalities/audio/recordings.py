"""The section of a data set's report on its recordings as they came: durations, rates, channels and loudness."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.charts import Axis, LogAxis
from headstart.html import render
from headstart.modalities.audio.section import AudioInput

_MOST_BARS = 40
_TICKS = (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 28800)
# Shares of a chart's width: a tick's label needs as much, on a telephone too.
_ROOM = 10.0
_CLIPPED = 0.001
_QUIET = 0.01
_SILENT = 0.9
_MANY = 0.25  # of the recordings


@dataclass(frozen=True)
class Bar:
    """`count` recordings of `low` to `high` seconds; places and sizes are percent of the chart. `short`: below what is
    read."""

    low: float
    high: float
    count: int
    left: float
    width: float
    height: float
    short: bool


@dataclass(frozen=True)
class Durations:
    """A histogram over a logarithmic scale of seconds; `mark` is the place of what is read of a recording."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    counts: Axis
    mark: float

    @classmethod
    def of(cls, seconds: np.ndarray, read: float) -> "Durations":
        """Bars have an edge at `read`, so that none is both padded and cut."""
        for per_octave in (8, 4, 2, 1):
            bins = np.floor(per_octave * np.log2(np.maximum(seconds, 1e-3) / read) + 1e-9).astype(int)
            low, high = min(int(bins.min()), -1) - 1, max(int(bins.max()), 0) + 2
            if high - low <= _MOST_BARS:
                break
        edges = [read * 2 ** (number / per_octave) for number in range(low, high + 1)]
        axis = LogAxis((edges[0], edges[-1]))
        found = sorted(Counter((bins - low).tolist()).items())
        counts = Axis.spanning([0, max(count for _, count in found)], least_step=1)
        width = 100 / (high - low)
        bars = [
            Bar(edges[number], edges[number + 1], count, round(number * width, 3), round(width, 3), counts.at(count),
                number + low < 0)
            for number, count in found
        ]  # fmt: skip
        ticks: list[tuple[float, str]] = []
        for value in _TICKS:
            apart = all(abs(axis.at(value) - place) >= _ROOM for place, _ in ticks)
            if edges[0] < value < edges[-1] and apart:
                ticks.append((axis.at(value), _duration(value)))
        return cls(bars, ticks, counts, axis.at(read))


def render_recordings(facts: Sequence[Mapping[str, Any]], given: AudioInput) -> str:
    """The section by the facts of each recording, at least one, as `decode` tells them."""
    seconds, peaks, clipped, silent = (
        np.array([each[name] for each in facts], dtype=np.float64) for name in ("seconds", "peak", "clipped", "silent")
    )
    return render(
        "modalities/audio/report.html",
        given=given,
        count=len(facts),
        total=_duration(float(seconds.sum())),
        shortest=_duration(float(seconds.min())),
        longest=_duration(float(seconds.max())),
        median=_duration(float(np.median(seconds))),
        durations=Durations.of(seconds, given.seconds) if seconds.min() < seconds.max() else None,
        padded=float((seconds < given.seconds).mean()),
        cut=float((seconds > given.seconds).mean()),
        rates=Counter((each["rate"], each["channels"]) for each in facts).most_common(),
        slow=float(np.mean([each["rate"] < given.rate for each in facts])),
        clipped=float((clipped > _CLIPPED).mean()),
        quiet=float((peaks < _QUIET).mean()),
        silent=float((silent > _SILENT).mean()),
    )


def notes(facts: Sequence[Mapping[str, Any]], given: AudioInput) -> list[str]:
    """Whether many recordings are read in part only, or have nothing in the upper bands."""
    cut = float(np.mean([each["seconds"] > given.seconds for each in facts]))
    low = float(np.mean([each["rate"] < given.rate for each in facts]))
    found = []
    if cut >= _MANY:
        found.append(
            f"{cut:.0%} of the recordings are longer than the {given.seconds:g} s that are read of each; of those only "
            "the loudest part is. input: {seconds: …} reads more."
        )
    if low >= _MANY:
        found.append(
            f"{low:.0%} of the recordings have a lower rate than {given.rate} Hz: their upper bands are empty, by "
            "which a model may tell where they come from. input: {rate: …} makes all alike."
        )
    return found


def _duration(seconds: float) -> str:
    """With two or three digits, in the unit that people use."""
    if seconds < 0.995:
        return f"{round(1000 * seconds)} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{math.floor(minutes / 60)} h {minutes % 60:02d} min"
