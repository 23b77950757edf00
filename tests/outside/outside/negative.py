"""Negative: values turned towards their opposite by 0.3, 0.6 or 0.9."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def negative(samples: np.ndarray, severity: int) -> np.ndarray:
    share = 0.3 * severity
    return to_pixels((1 - share) * samples.astype(np.float32) + share * (255 - samples))


CORRUPTION = Corruption("negative", negative)
