"""Noise: as much power in each mel band, which is about pink, 20, 10 or 0 dB below the recording's.

The noise of the i-th recording is the same in every batch that holds as many before it.
"""

import numpy as np

from headstart.modalities.audio.spectrogram import from_power, to_power
from headstart.modalities.corruption import Corruption


def noise(samples: np.ndarray, severity: int) -> np.ndarray:
    ratio = 10 ** ((20, 10, 0)[severity - 1] / 10)
    power = to_power(samples)
    level = power.mean(axis=(1, 2, 3), keepdims=True) / ratio
    # The power of a bin of noise is exponentially distributed, and a band has about three of them.
    drawn = np.random.default_rng(severity).standard_gamma(3, samples.shape, dtype=np.float32) / 3
    return from_power(power + level * drawn)


CORRUPTION = Corruption("noise", noise, place=1)
