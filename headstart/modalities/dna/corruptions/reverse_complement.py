"""Reverse complement: 0.25, 0.5 or all of the sequences are their other strand, read in its own direction.

Where the strand is the answer, another one is right then, and accuracy has to fall.
"""

from collections.abc import Sequence

import numpy as np

from headstart.modalities._sequences.alphabet import NUCLEOTIDES
from headstart.modalities._sequences.changes import other_strands
from headstart.modalities.corruption import Corruption


def reverse_complement(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return other_strands(samples, (0.25, 0.5, 1.0)[severity - 1], NUCLEOTIDES)


CORRUPTION = Corruption("reverse complement", reverse_complement, place=3)
