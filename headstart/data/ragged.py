"""Ragged store: a split's samples of unequal length, as their values one after the other and the offsets of each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import InputError

OFFSETS = ".offsets.npy"
"""The suffix of the file with the offsets, int64 (N + 1,); that with the values is a plain array, (total, …)."""


def write_ragged(
    path: Path, samples: Iterable[np.ndarray], lengths: Sequence[int], shape: tuple[int, ...], dtype: str
) -> None:
    """Write arrays (length, *shape) of `dtype` and these lengths in their order to `path`, and offsets beside it."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    # Not through a memory map, whose pages would stay.
    with path.open("wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": (int(offsets[-1]), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for values in samples:
            file.write(np.ascontiguousarray(values, dtype).data)
    np.save(offsets_of(path), offsets)


def offsets_of(path: Path) -> Path:
    """The file with the offsets of the samples in the file `path`."""
    return path.with_name(path.name.removesuffix(".npy") + OFFSETS)


class RaggedSamples:
    """The samples in a file of `write_ragged`: `samples[row]` is an array, `samples[rows]` a list of arrays, of which
    `rows` is a slice, positions in any order or a mask; all are copies."""

    def __init__(self, path: Path, count: int, shape: tuple[int, ...], dtype: str) -> None:
        """Open the file and check it.

        Raises:
            InputError: it is damaged, or holds another number of samples or another kind of values.
        """
        self.dtype = np.dtype(dtype)
        try:
            self._values = np.load(path, mmap_mode="r", allow_pickle=False)
            self._offsets = np.load(offsets_of(path), allow_pickle=False)
        except (OSError, ValueError):
            raise InputError(f"{path} is damaged; prepare the data set again.") from None
        offsets = self._offsets
        whole = offsets.shape == (count + 1,) and offsets.dtype == np.int64 and offsets[0] == 0
        if (
            not whole
            or (np.diff(offsets) < 0).any()
            or self._values.shape != (offsets[-1], *shape)
            or self._values.dtype != self.dtype
        ):
            raise InputError(f"{path} does not hold {count} samples of {dtype}; prepare the data set again.")
        self.shape, self._of_value = (count, None, *shape), shape

    def __len__(self) -> int:
        return self.shape[0] or 0

    @property
    def lengths(self) -> np.ndarray:
        """The length of each sample, int64 (N,)."""
        lengths: np.ndarray = np.diff(self._offsets)
        return lengths

    def __getitem__(self, rows: Any) -> Any:
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            return self._sample(int(chosen))
        return [self._sample(row) for row in chosen.tolist()]

    def write_rows(self, rows: np.ndarray, path: Path) -> None:
        """Write the samples at positions `rows`, int (n,), in that order, to another such file."""
        samples = (self._sample(row) for row in rows.tolist())
        write_ragged(path, samples, self.lengths[rows].tolist(), self._of_value, self.dtype.str)

    def _sample(self, row: int) -> np.ndarray:
        return np.array(self._values[self._offsets[row] : self._offsets[row + 1]])
