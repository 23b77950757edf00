"""Brightness: every value raised by 0.15, 0.3 or 0.45 of the range."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def brightness(samples: np.ndarray, severity: int) -> np.ndarray:
    return to_pixels(samples.astype(np.float32) + 255 * (0.15, 0.3, 0.45)[severity - 1])


CORRUPTION = Corruption("brightness", brightness, place=3)
