"""Dropouts: 0.1, 0.2 or 0.4 of the time is silent, in stretches of a 25th of the length, as lost packets leave it.

The i-th recording loses the same stretches in every batch that holds as many before it.
"""

import numpy as np

from headstart.modalities.corruption import Corruption

_STRETCHES = 25


def dropouts(samples: np.ndarray, severity: int) -> np.ndarray:
    share = (0.1, 0.2, 0.4)[severity - 1]
    # A heavier corruption loses what a lighter one does, and more.
    lost = np.random.default_rng(0).random((len(samples), _STRETCHES)) < share
    stretch = np.arange(samples.shape[1]) * _STRETCHES // samples.shape[1]
    return np.where(lost[:, stretch, None, None], np.uint8(0), samples)


CORRUPTION = Corruption("dropouts", dropouts, place=5)
