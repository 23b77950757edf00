"""Dropouts: 0.1, 0.2 or 0.4 of the time is silent, in stretches of a 25th of the length, as lost packets leave it."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.waveform.corruption import of_waves

_STRETCHES = 25


def dropouts(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    share = (0.1, 0.2, 0.4)[severity - 1]

    def dropped(wave: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        # A heavier corruption loses what a lighter one does, and more.
        lost = generator.random(_STRETCHES) < share
        return np.where(lost[np.arange(len(wave)) * _STRETCHES // max(1, len(wave))], np.float32(0), wave)

    return of_waves(dropped, samples)


CORRUPTION = Corruption("dropouts", dropouts, place=5)
