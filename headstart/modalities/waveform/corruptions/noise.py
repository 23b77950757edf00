"""Noise: white noise 20, 10 or 0 dB below the recording's power."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.waveform.corruption import of_waves


def noise(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    share = 10 ** (-(20, 10, 0)[severity - 1] / 20)

    def noisy(wave: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        level = share * np.sqrt(np.mean(wave.astype(np.float64) ** 2))
        return wave + np.float32(level) * generator.standard_normal(len(wave), dtype=np.float32)

    return of_waves(noisy, samples)


CORRUPTION = Corruption("noise", noise, place=1)
