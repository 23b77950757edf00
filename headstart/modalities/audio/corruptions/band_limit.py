"""Band limit: nothing above 0.8, 0.65 or 0.5 of the mel bands, as old telephones and strong compression have it."""

import numpy as np

from headstart.modalities.corruption import Corruption


def band_limit(samples: np.ndarray, severity: int) -> np.ndarray:
    limited = samples.copy()
    limited[:, :, round((0.8, 0.65, 0.5)[severity - 1] * samples.shape[2]) :] = 0
    return limited


CORRUPTION = Corruption("band limit", band_limit, place=2)
