"""Rotation: by 8, 16 or 24 degrees about the centre, every second picture the other way, border pixels repeated."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def rotation(samples: np.ndarray, severity: int) -> np.ndarray:
    from scipy.ndimage import rotate

    angle = (8.0, 16.0, 24.0)[severity - 1]
    turned = np.empty(samples.shape, dtype=np.uint8)
    for way, sign in ((0, 1), (1, -1)):
        half = samples[way::2].astype(np.float32)
        turned[way::2] = to_pixels(rotate(half, sign * angle, axes=(2, 1), reshape=False, order=1, mode="nearest"))
    return turned


CORRUPTION = Corruption("rotation", rotation, place=5)
