"""Blur: a Gaussian blur of a standard deviation of 2, 4 or 6 hundredths of the side."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def blur(samples: np.ndarray, severity: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = (0.02, 0.04, 0.06)[severity - 1] * samples.shape[1]
    return to_pixels(gaussian_filter(samples.astype(np.float32), (0, sigma, sigma, 0), mode="nearest"))


CORRUPTION = Corruption("blur", blur, place=2)
