"""Corruptions: degradations of stored samples that robustness is judged under."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headstart.registry import LAST


@dataclass(frozen=True)
class Corruption:
    """A degradation. `apply(samples, severity)` takes stored samples, an array (N, …) or arrays of unequal length, and
    a severity of 1 to 3, and returns as many of the same type; it depends on them alone, so that two models, and two
    runs, see the same values."""

    title: str
    """as people write it"""
    apply: Callable[[Any, int], Any]
    place: int = LAST
    """where the report shows it: rising, then by name"""
