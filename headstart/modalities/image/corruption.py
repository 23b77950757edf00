"""The registry of the corruptions of images that robustness is judged under.

Kinds and severities follow Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common
corruptions and perturbations", written for batches of small and large pictures alike: lengths are shares of the side.
"""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("corruptions", "headstart.modalities.image.corruptions", "CORRUPTION", Corruption)


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values rounded and clipped to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
