"""Typos: in 0.1, 0.25 or 0.5 of the words two letters that stand side by side change places."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.text.corruption import of_words


def typos(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return of_words(_swapped, (0.1, 0.25, 0.5)[severity - 1], samples)


def _swapped(word: str) -> str:
    """The two letters in the middle have changed places; a word of one letter stays."""
    middle = len(word) // 2
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if middle else word


CORRUPTION = Corruption("typos", typos, place=1)
