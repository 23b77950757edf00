"""Dropped words: 0.1, 0.25 or 0.5 of the words are missing."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.text.corruption import of_words


def dropped_words(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return of_words(lambda word: "", (0.1, 0.25, 0.5)[severity - 1], samples)


CORRUPTION = Corruption("dropped words", dropped_words, place=2)
