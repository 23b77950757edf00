"""The registry of the corruptions of waveforms that robustness is judged under, and what they are made of.

They change stored waveforms, int16 (n,) each, by the waveform and the severity alone.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("waveform_corruptions", "headstart.modalities.waveform.corruptions", "CORRUPTION", Corruption)


def of_waves(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray], samples: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Each waveform as `change` leaves it, rounded and kept within full scale. `change` is given float32 (n,) and
    random numbers of its own, and returns as many values."""
    changed = []
    for wave in samples:
        found = change(wave.astype(np.float32), np.random.default_rng(zlib.crc32(wave.tobytes())))
        changed.append(found.round().clip(-32768, 32767).astype(np.int16))
    return changed
