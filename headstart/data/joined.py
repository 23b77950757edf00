"""The samples of several splits in a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class JoinedSamples:
    """Samples (N, …) of several parts, in their order; nothing is read before it is asked for."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0] or 0

    def __getitem__(self, rows: Any) -> Any:
        """The sample at a position, or those at a slice, positions in any order or a mask: an array, or a list of
        arrays where the parts give lists, as samples of unequal length do."""
        chosen = np.arange(len(self))[rows]
        part_of = np.searchsorted(self._starts[1:], chosen, side="right")
        if np.ndim(chosen) == 0:
            return self._parts[part_of][chosen - self._starts[part_of]]
        # In the order of the parts, and then as asked.
        order = np.argsort(part_of, kind="stable")
        found = [
            part[chosen[part_of == number] - self._starts[number]]
            for number, part in enumerate(self._parts)
            if (part_of == number).any()
        ]
        back = np.argsort(order, kind="stable")
        if found and isinstance(found[0], list):
            flat = [sample for part in found for sample in part]
            return [flat[position] for position in back.tolist()]
        return np.concatenate(found)[back] if found else self._parts[0][:0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("samples of several files are always a copy")
        return np.asarray(self[:], dtype=dtype)
