"""The registry of the corruptions of texts that robustness is judged under, and what they are made of.

They change stored texts, arrays uint8 (B,) of UTF-8. What a text loses depends on the text and the severity alone, and
a heavier corruption changes what a lighter one does, and more.
"""

import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("text_corruptions", "headstart.modalities.text.corruptions", "CORRUPTION", Corruption)

_WORD = re.compile(r"\S+")


def of_texts(change: Callable[[str, np.random.Generator], str], samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each text as `change` leaves it, which is given the text and random numbers of its own; one that would be empty
    stays as it is."""
    changed = []
    for values in samples:
        raw = values.tobytes()
        text = change(raw.decode("utf-8", "replace"), np.random.default_rng(zlib.crc32(raw)))
        changed.append(np.frombuffer(text.encode(), dtype=np.uint8) if text.strip() else values)
    return changed


def of_words(change: Callable[[str], str], share: float, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Texts of which about the share `share` of the words is changed."""

    def changed(text: str, generator: np.random.Generator) -> str:
        return _WORD.sub(lambda word: change(word[0]) if generator.random() < share else word[0], text)

    return of_texts(changed, samples)
