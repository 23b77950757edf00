"""Clipping: cut off at 0.5, 0.2 or 0.05 of the recording's peak, as an overdriven microphone cuts it."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.waveform.corruption import of_waves


def clipping(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    share = (0.5, 0.2, 0.05)[severity - 1]

    def clipped(wave: np.ndarray, _: np.random.Generator) -> np.ndarray:
        most = share * np.abs(wave).max(initial=0)
        return wave.clip(-most, most)

    return of_waves(clipped, samples)


CORRUPTION = Corruption("clipping", clipping, place=3)
