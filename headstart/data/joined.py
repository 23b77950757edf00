"""The samples of several splits in a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headstart.data.encoded import EncodedSamples


class JoinedSamples:
    """Samples uint8 (N, H, W, C) of several parts, in their order; nothing is read before it is asked for."""

    def __init__(self, parts: Sequence[np.ndarray | EncodedSamples]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The samples at a position, a slice, positions in any order or a mask."""
        chosen = np.asarray(np.arange(len(self))[rows])
        flat = chosen.ravel()
        found = np.empty((len(flat), *self.shape[1:]), dtype=np.uint8)
        part_of = np.searchsorted(self._ends, flat, side="right")
        for number, part in enumerate(self._parts):
            asked = part_of == number
            if asked.any():
                found[asked] = part[flat[asked] - (self._ends[number] - len(part))]
        return found.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("samples of several files are always a copy")
        return np.asarray(self[:], dtype=dtype)
