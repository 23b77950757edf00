"""Quietness: 10, 20 or 30 dB down, with what falls below the map's floor lost."""

import numpy as np

from headstart.modalities.audio.spectrogram import from_db, to_db
from headstart.modalities.corruption import Corruption


def quietness(samples: np.ndarray, severity: int) -> np.ndarray:
    return from_db(to_db(samples) - (10, 20, 30)[severity - 1])


CORRUPTION = Corruption("quietness", quietness, place=3)
