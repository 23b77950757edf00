"""Corruptions: degradations of stored samples that robustness is judged under."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import LAST

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Corruption:
    """A degradation. `apply(samples, severity)` takes stored samples (N, …) and a severity of 1 to 3 and returns the
    same shape and type; it depends on them alone, so that two models, and two runs, see the same values."""

    title: str
    """as people write it"""
    apply: "Callable[[np.ndarray, int], np.ndarray]"
    place: int = LAST
    """where the report shows it: rising, then by name"""
