"""The samples of several splits in a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class JoinedSamples:
    """Samples (N, …) of several parts, in their order; nothing is read before it is asked for."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0] or 0

    def part_of(self, rows: Any) -> Any:
        """The number of the part in which the sample at a position is, or those at positions."""
        return np.searchsorted(self.starts[1:], rows, side="right")

    def __getitem__(self, rows: Any) -> Any:
        """The sample at a position, or those at a slice, positions in any order or a mask: an array, or a list of
        arrays where the parts give lists, as samples of unequal length do."""
        chosen = np.arange(len(self))[rows]
        part_of = self.part_of(chosen)
        if np.ndim(chosen) == 0:
            return self.parts[part_of][chosen - self.starts[part_of]]
        # In the order of the parts, and then as asked.
        order = np.argsort(part_of, kind="stable")
        found = [
            part[chosen[part_of == number] - self.starts[number]]
            for number, part in enumerate(self.parts)
            if (part_of == number).any()
        ]
        back = np.argsort(order, kind="stable")
        if found and isinstance(found[0], list):
            flat = [sample for part in found for sample in part]
            return [flat[position] for position in back.tolist()]
        return np.concatenate(found)[back] if found else self.parts[0][:0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("samples of several files are always a copy")
        return np.asarray(self[:], dtype=dtype)
