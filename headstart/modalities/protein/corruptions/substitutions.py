"""Substitutions: 0.02, 0.1 or 0.25 of the residues are others."""

from collections.abc import Sequence

import numpy as np

from headstart.modalities._sequences.alphabet import RESIDUES
from headstart.modalities._sequences.changes import substituted
from headstart.modalities.corruption import Corruption


def substitutions(samples: Sequence[np.ndarray], severity: int) -> list[np.ndarray]:
    return substituted(samples, (0.02, 0.1, 0.25)[severity - 1], RESIDUES)


CORRUPTION = Corruption("substitutions", substitutions, place=1)
