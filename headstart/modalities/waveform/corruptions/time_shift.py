"""Time shift: the recording begins 0.05, 0.1 or 0.25 of its length later, after silence; as much of its end is lost."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.waveform.corruption import of_waves


def time_shift(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    share = (0.05, 0.1, 0.25)[severity - 1]

    def shifted(wave: np.ndarray, _: np.random.Generator) -> np.ndarray:
        start = round(share * len(wave))
        return np.concatenate([np.zeros(start, np.float32), wave[: len(wave) - start]])

    return of_waves(shifted, samples)


CORRUPTION = Corruption("time shift", time_shift, place=4)
