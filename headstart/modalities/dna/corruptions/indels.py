"""Indels: at 0.01, 0.03 or 0.1 of the places a nucleotide is missing or another stands before it."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities._sequences.alphabet import NUCLEOTIDES
from headstart.modalities._sequences.changes import with_indels
from headstart.modalities.corruption import Corruption


def indels(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return with_indels(samples, (0.01, 0.03, 0.1)[severity - 1], NUCLEOTIDES)


CORRUPTION = Corruption("indels", indels, place=2)
