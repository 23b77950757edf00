"""Cut off: the first half, quarter or eighth of the text is left."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.text.corruption import of_texts


def cut_off(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return of_texts(lambda text, _: text[: len(text) // 2**severity], samples)


CORRUPTION = Corruption("cut off", cut_off, place=4)
