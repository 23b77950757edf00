"""Pixelation: 0.6, 0.4 or 0.25 of the pixels a side, averaged down and repeated up again."""

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.image.corruption import to_pixels


def pixelation(samples: np.ndarray, severity: int) -> np.ndarray:
    side = samples.shape[1]
    cells = max(2, round((0.6, 0.4, 0.25)[severity - 1] * side))
    edges = np.linspace(0, side, cells + 1).round().astype(int)
    values = samples.astype(np.float32)
    for axis in (1, 2):
        sums = np.add.reduceat(values, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if dimension == axis else 1 for dimension in range(4)])
        values = np.repeat(sums / widths, np.diff(edges), axis=axis)
    return to_pixels(values)


CORRUPTION = Corruption("pixelation", pixelation, place=6)
