"""Samples that are the same to a person and not to a digest, such as a picture that was saved again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from headstart.modalities import Shape


class Mark(NamedTuple):
    """A fingerprint of a sample: a hash of 64 bits, and the coarse form of the sample that it is of."""

    hash: int
    coarse: bytes


class Alike(ABC):
    """The rule by which a modality calls two samples the same."""

    verb: ClassVar[str] = "look"
    """what samples that are alike do the same: look, sound"""

    @abstractmethod
    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        """The fingerprint of each stored array; None where there is too little in it to tell."""

    @abstractmethod
    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        """Pairs (i, j) of samples that are alike, i < j, sorted, enough to connect all of them; `sample` gives the
        stored array of one."""

    def comparable(self, one: Shape, other: Shape) -> bool:
        """Whether samples of two data sets can be compared."""
        return one == other

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        """The positions of those marks that may be alike to any of the others: a sieve before `pairs`."""
        return list(range(len(marks)))
