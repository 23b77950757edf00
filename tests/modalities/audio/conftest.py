"""Maps of recordings."""

import numpy as np
import pytest

from headstart.modalities.audio import MODALITY
from headstart.modalities.audio.section import AudioInput
from tests.modalities.audio.sounds import encoded, speech

GIVEN = AudioInput()


def stored(sound: np.ndarray, rate: int = 16000, **options: str) -> np.ndarray:
    """The map of a sound, uint8 (frames, mels, 1)."""
    return MODALITY.decode(encoded(sound, rate, **options), GIVEN).values


@pytest.fixture(scope="session")
def maps() -> np.ndarray:
    """Twelve recordings, uint8 (12, 100, 64, 1)."""
    return np.stack([stored(speech(seed)) for seed in range(12)])
