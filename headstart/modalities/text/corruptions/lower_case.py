"""Lower case: 0.3, 0.6 or all of the words have no capitals."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities.corruption import Corruption
from headstart.modalities.text.corruption import of_words


def lower_case(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return of_words(str.lower, (0.3, 0.6, 1.0)[severity - 1], samples)


CORRUPTION = Corruption("lower case", lower_case, place=3)
