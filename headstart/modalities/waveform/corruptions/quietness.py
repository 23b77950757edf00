"""Quietness: 10, 20 or 30 dB down; what falls below a step of 16 bits is lost."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.waveform.corruption import of_waves


def quietness(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    gain = np.float32(10 ** (-(10, 20, 30)[severity - 1] / 20))
    return of_waves(lambda wave, _: wave * gain, samples)


CORRUPTION = Corruption("quietness", quietness, place=2)
