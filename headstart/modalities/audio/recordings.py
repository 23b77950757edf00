"""The section of a data set's report on its recordings as they came: durations, rates, channels and loudness."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from headstart.html import render
from headstart.modalities.histogram import Histogram, histogram

_MOST_BARS = 40
_TICKS = (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 28800)
_CLIPPED = 0.001
_QUIET = 0.01
_SILENT = 0.9
_MANY = 0.25  # of the recordings


class Read(Protocol):
    """What is read of each recording: so many seconds, converted to so many Hz."""

    @property
    def seconds(self) -> float: ...

    @property
    def rate(self) -> int: ...


def durations(seconds: np.ndarray, read: float) -> Histogram:
    """Recordings by their length, float (N,); bars have an edge at `read`, so that none is both padded and cut."""
    for per_octave in (8, 4, 2, 1):
        bins = np.floor(per_octave * np.log2(np.maximum(seconds, 1e-3) / read) + 1e-9).astype(int)
        low, high = min(int(bins.min()), -1) - 1, max(int(bins.max()), 0) + 2
        if high - low <= _MOST_BARS:
            break
    edges = [read * 2 ** (number / per_octave) for number in range(low, high + 1)]
    return histogram(bins - low, edges, [(value, _duration(value)) for value in _TICKS], mark=read)


def render_recordings(facts: Sequence[Mapping[str, Any]], given: Read, form: str, *, is_padded: bool = True) -> str:
    """The section by the facts of each recording, at least one, as `decode` tells them; `form` is how they are stored,
    in words, and `is_padded` whether shorter ones are padded."""
    seconds, peaks, clipped, silent = (
        np.array([each[name] for each in facts], dtype=np.float64) for name in ("seconds", "peak", "clipped", "silent")
    )
    return render(
        "modalities/audio/report.html",
        given=given,
        form=form,
        is_padded=is_padded,
        count=len(facts),
        total=_duration(float(seconds.sum())),
        shortest=_duration(float(seconds.min())),
        longest=_duration(float(seconds.max())),
        median=_duration(float(np.median(seconds))),
        durations=durations(seconds, given.seconds) if seconds.min() < seconds.max() else None,
        padded=float((seconds < given.seconds).mean()),
        cut=float((seconds > given.seconds).mean()),
        rates=Counter((each["rate"], each["channels"]) for each in facts).most_common(),
        slow=float(np.mean([each["rate"] < given.rate for each in facts])),
        clipped=float((clipped > _CLIPPED).mean()),
        quiet=float((peaks < _QUIET).mean()),
        silent=float((silent > _SILENT).mean()),
    )


def notes(facts: Sequence[Mapping[str, Any]], given: Read) -> list[str]:
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
