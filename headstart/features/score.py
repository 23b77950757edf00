"""The registry of transferability scores: how well frozen features suit a target, without fine-tuning on it.

A score is finite whatever comes: fewer samples than features; features that are constant, copies or all 0; classes
with a single sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import LAST, Registry

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Probed:
    """Target samples as a source sees them."""

    features: "np.ndarray"
    """float (N, D), frozen"""
    labels: "np.ndarray"
    """int (N,); numbers may be missing"""
    probabilities: "np.ndarray | None"
    """(N, Z) of the source's own classes; None for a source without a trained head"""
    seed: int


@dataclass(frozen=True)
class Score:
    """A number of which higher is better. `of` returns None for a source to which the score does not apply."""

    title: str
    """as people write it"""
    of: Callable[[Probed], float | None]
    place: int = LAST
    """where the scores are listed: rising, then by name"""


SCORES = Registry("scores", "headstart.features.transferability", "SCORE", Score)
