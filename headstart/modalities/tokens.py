"""Token ids: the input of networks that read texts or sequences token by token."""

from abc import abstractmethod

import numpy as np

from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.preprocessing import Preprocessing


class TokenPreprocessing(Preprocessing):
    """Stored samples become `ids`, int64 (N, L) below `channels`, and `mask`, bool (N, L), which tells tokens from
    padding."""

    @abstractmethod
    def __call__(self, batch: Inputs) -> Batch: ...

    @abstractmethod
    def example(self, count: int) -> Batch: ...

    @abstractmethod
    def spans(self, sample: np.ndarray) -> np.ndarray:
        """Where the values of a stored sample begin and end that each of its tokens stands for, int64 (L, 2); of a
        token that stands for none, both are equal."""

    @property
    @abstractmethod
    def length(self) -> int:
        """The number of tokens that are read of a sample at most."""

    @property
    @abstractmethod
    def mask_id(self) -> int | None:
        """The id of the token that stands for a hidden one; None where there is none."""

    @property
    @abstractmethod
    def special_ids(self) -> list[int]:
        """The ids of the tokens that are never to be guessed, rising."""
