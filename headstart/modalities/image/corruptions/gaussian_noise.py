"""Gaussian noise: independent normal noise on every value, of a standard deviation of 0.06, 0.12 or 0.2 of the range.

The noise of the i-th picture is the same in every batch that holds as many before it.
"""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def gaussian_noise(samples: np.ndarray, severity: int) -> np.ndarray:
    noise = np.random.default_rng(severity).standard_normal(samples.shape, dtype=np.float32)
    return to_pixels(samples + 255 * (0.06, 0.12, 0.2)[severity - 1] * noise)


CORRUPTION = Corruption("gaussian noise", gaussian_noise, place=1)
