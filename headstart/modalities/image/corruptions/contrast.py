"""Contrast: the distance from the picture's mean shrunk to 0.6, 0.35 or 0.15 of itself."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def contrast(samples: np.ndarray, severity: int) -> np.ndarray:
    values = samples.astype(np.float32)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    return to_pixels(mean + (0.6, 0.35, 0.15)[severity - 1] * (values - mean))


CORRUPTION = Corruption("contrast", contrast, place=4)
