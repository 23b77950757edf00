"""Reverberation: an echo that begins 10 dB, 5 dB or at once below the sound and falls by 60 dB in 0.15, 0.3 or 0.6 of
the length, the latter a large hall in recordings of two seconds."""

import numpy as np

from headstart.modalities.audio.spectrogram import from_power, to_power
from headstart.modalities.corruption import Corruption


def reverberation(samples: np.ndarray, severity: int) -> np.ndarray:
    from scipy.signal import lfilter

    frames = (0.15, 0.3, 0.6)[severity - 1] * samples.shape[1]
    level = 10 ** ((-10, -5, 0)[severity - 1] / 10)
    decay = 10 ** (-6 / frames)
    power = to_power(samples)
    # Each frame's echo is in the frames after it.
    echo = lfilter([0, level * decay], [1, -decay], power, axis=1)
    return from_power(power + echo)


CORRUPTION = Corruption("reverberation", reverberation, place=4)
