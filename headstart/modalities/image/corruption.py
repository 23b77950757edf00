"""The registry of the corruptions of images that robustness is judged under.

Kinds and severities follow Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common
corruptions and perturbations", written for batches of small and large pictures alike: lengths are shares of the side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headstart.registry import LAST, Registry


@dataclass(frozen=True)
class Corruption:
    """A degradation of pictures. `apply(samples, severity)` takes uint8 (N, H, W, C) and a severity of 1 to 3 and
    returns the same shape and type; it depends on them alone, so that two models, and two runs, see the same pixels."""

    title: str
    """as people write it"""
    apply: Callable[[np.ndarray, int], np.ndarray]
    place: int = LAST
    """where the report shows it: rising, then by name"""


CORRUPTIONS = Registry("corruptions", "headstart.modalities.image.corruptions", "CORRUPTION", Corruption)


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values rounded and clipped to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
