"""Near duplicates: recordings that sound the same, as the modality `audio` tells them from maps of one scale."""

from collections.abc import Callable, Sequence

import numpy as np

from headstart.modalities.alike import Mark
from headstart.modalities.audio.decoding import of_length
from headstart.modalities.audio.near_duplicates import SoundsAlike
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_map
from headstart.modalities.waveform.decoding import to_sound

_RATE, _FRAMES, _LEAST_HOP = 16000, 100, 320


class WavesAlike(SoundsAlike):
    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        return super().marks([_map(sample) for sample in samples])

    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        return super().pairs(marks, lambda number: _map(sample(number)))


WAVES_ALIKE = WavesAlike()


def _map(values: np.ndarray) -> np.ndarray:
    """A stored waveform as a map uint8 (100, 64, 1), of its length or, if it is shorter, of two seconds, in whose
    middle it is. Whatever its rate is, the bands are even: copies in one data set have the same."""
    hop = max(_LEAST_HOP, -(-len(values) // _FRAMES))
    given = AudioInput.model_construct(
        rate=_RATE, seconds=hop * _FRAMES / _RATE, mels=AudioInput().mels, hop_ms=1000 * hop / _RATE
    )
    return to_map(of_length(to_sound(values), hop * _FRAMES), given)[:, :, None]
