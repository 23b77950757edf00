"""Streamed store: a split's samples in blocks in the state, of which a reader has some on its disk at a time.

The samples lie in the order of their ids, which are digests, so that any block is a random part of the split whatever
order the files came in. A block is samples one after the other, as the stores without blocks have them: arrays, values
of unequal length, or samples in the form of a codec. `<split>.blocks.npz` has

    digests   uint8 (B, 32)   the SHA-256 of each block
    rows      int64 (B + 1,)  the first sample of each block, and their number
    bounds    int64 (N + 1,)  the byte at which each sample begins; of samples of equal size the first two alone
"""

import zipfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.encoded import EncodedSamples
from headstart.data.ragged import RaggedSamples
from headstart.errors import InputError
from headstart.modalities.codec import Codec
from headstart.storage.blocks import Blocks, write_block
from headstart.storage.state import State

SUFFIX = ".blocks.npz"

BLOCK = 4 * 2**20
"""Bytes of a block, or so: large enough that a request's time is that of its bytes."""

_HELD = 64
"""Open blocks of a split, of which a training needs 48 at a time (headstart/training/batches.py)."""

_WRITES_AT_ONCE = 8


class Streamed:
    """The blocks of a split of `count` samples."""

    def __init__(self, path: Path, count: int, state: State) -> None:
        """Read the file `path`.

        Raises:
            InputError: it is damaged, or of another number of samples.
        """
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as found:
                digests, self._rows, self.bounds = found["digests"], found["rows"], found["bounds"]
            self._sizes = np.diff(self._bytes_before(self._rows))
            whole = (
                (digests.dtype, digests.shape) == (np.uint8, (len(self._rows) - 1, 32))
                and self._rows.dtype == self.bounds.dtype == np.int64
                and self.bounds.shape in ((count + 1,), (2,))
                and (self._rows[0], self._rows[-1], self.bounds[0]) == (0, count, 0)
                and (np.diff(self._rows) > 0).all()
                and (np.diff(self.bounds) >= 0).all()
            )
        except (OSError, ValueError, LookupError, TypeError, EOFError, MemoryError, zipfile.BadZipFile):
            whole = False
        if not whole:
            raise InputError(f"{path} is damaged; prepare the data set again.")
        names = [bytes(digest) for digest in digests]
        self._blocks = Blocks(state, names, self._sizes.tolist(), held=_HELD, of=str(path))

    def __len__(self) -> int:
        return int(self._rows[-1])

    @property
    def is_even(self) -> bool:
        """Whether all samples have the same size."""
        return len(self.bounds) == 2

    def of(self, rows: Any) -> np.ndarray:
        """The number of the block in which each of these samples lies, int64 of the shape of `rows`."""
        return np.searchsorted(self._rows, rows, side="right") - 1

    def request(self, rows: np.ndarray) -> None:
        """Begin to read the blocks of these samples, the first sample's first."""
        numbers = self.of(rows)
        _, first = np.unique(numbers, return_index=True)
        numbers = numbers[np.sort(first)]
        self._blocks.request(numbers[self._sizes[numbers] > 0].tolist())

    def samples_of(self, number: int) -> tuple[int, memoryview]:
        """The first sample of a block, and its content."""
        # Samples of no length may fill one.
        content = self._blocks.read(number) if self._sizes[number] else memoryview(b"")
        return int(self._rows[number]), content

    def content(self, row: int) -> memoryview:
        """The bytes of a sample."""
        first, block = self.samples_of(int(self.of(row)))
        before, start, end = self._bytes_before(np.array([first, row, row + 1])).tolist()
        return block[start - before : end - before]

    def _bytes_before(self, rows: np.ndarray) -> np.ndarray:
        """The byte at which each of these samples begins."""
        return rows * self.bounds[1] if self.is_even else self.bounds[rows]


class StreamedArrays:
    """Samples of one shape, as an array (N, …) that is indexed along its first axis; what it gives is a copy."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str, state: State) -> None:
        self.blocks = Streamed(path, shape[0], state)
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(dtype)
        self._all = np.arange(shape[0])
        if shape[0] and self.blocks.bounds[1] != self.dtype.itemsize * np.prod(shape[1:], dtype=np.int64):
            raise InputError(f"{path} does not hold samples of {dtype} {shape[1:]}; prepare the data set again.")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The samples at a position, a slice, positions in any order or a mask.

        Raises:
            InputError, HeadstartError: as `Blocks.read`.
        """
        chosen = np.asarray(self._all[rows])
        flat = chosen.reshape(-1)
        values = np.empty((len(flat), *self.shape[1:]), dtype=self.dtype)
        self.blocks.request(np.sort(flat))
        numbers = self.blocks.of(flat)
        for number in np.unique(numbers).tolist():
            first, content = self.blocks.samples_of(number)
            mine = np.flatnonzero(numbers == number)
            values[mine] = np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])[flat[mine] - first]
        return values.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("samples that are streamed are always a copy")
        return np.asarray(self[:], dtype=dtype)


class StreamedRagged(RaggedSamples):
    """Samples of unequal length."""

    def __init__(self, path: Path, count: int, shape: tuple[int, ...], dtype: str, state: State) -> None:
        self.blocks, self.dtype = Streamed(path, count, state), np.dtype(dtype)
        size = self.dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        # All samples of a split may happen to have one length.
        bounds = np.arange(count + 1) * self.blocks.bounds[1] if self.blocks.is_even else self.blocks.bounds
        if (bounds % size).any():
            raise InputError(f"{path} does not hold {count} samples of {dtype}; prepare the data set again.")
        self._offsets = bounds // size
        self.shape, self._of_value = (count, None, *shape), shape

    def __getitem__(self, rows: Any) -> Any:
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            return self._sample(int(chosen))
        # In the order of their blocks, each of which is then read once.
        order = np.argsort(chosen, kind="stable")
        self.blocks.request(chosen[order])
        found = dict(zip(order.tolist(), map(self._sample, chosen[order].tolist()), strict=True))
        return [found[place] for place in range(len(order))]

    def _sample(self, row: int) -> np.ndarray:
        return np.frombuffer(self.blocks.content(row), self.dtype).reshape(-1, *self._of_value).copy()


class StreamedEncoded(EncodedSamples):
    """Samples in the form of a codec."""

    def __init__(self, path: Path, shape: tuple[int, ...], codec: Codec, state: State) -> None:
        self.blocks = Streamed(path, shape[0], state)
        self.shape, self.ndim = shape, len(shape)
        self._path, self._codec = path, codec
        self._rows = np.arange(shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.blocks.request(np.sort(np.asarray(self._rows[rows]), axis=None))
        return super().__getitem__(rows)

    def _encoded(self, row: int) -> bytes:
        return self.blocks.content(row).tobytes()


class BlockWriter:
    """Writes the samples of a split to the state, in the order in which they come, in blocks.

    A block ends after the sample with which it is full. Some blocks are in memory at a time.
    """

    def __init__(self, path: Path, state: State, pool: ThreadPoolExecutor) -> None:
        """`path` is the file that lists the blocks, `.blocks.npz`; `pool` writes several at a time."""
        self._path, self._state, self._pool = path, state, pool
        self._block, self._full = list[bytes](), 0
        self._sizes, self._rows, self._digests = array("q"), array("q", [0]), list[bytes]()
        self._waiting: deque[Future[bytes]] = deque()
        self.bytes = 0

    def extend(self, contents: Iterable[bytes]) -> None:
        """Add samples as they are stored: the bytes of an array, or those that a codec made of it."""
        for content in contents:
            if self._block and self.bytes >= self._full:
                self._end_block()
            if not self._block:
                self._full = (self.bytes // BLOCK + 1) * BLOCK
            self._block.append(content)
            self._sizes.append(len(content))
            self.bytes += len(content)

    def _end_block(self) -> None:
        self._waiting.append(self._pool.submit(write_block, self._state, b"".join(self._block)))
        self._rows.append(len(self._sizes))
        self._block = []
        if len(self._waiting) > _WRITES_AT_ONCE:
            self._digests.append(self._waiting.popleft().result())

    def finish(self) -> None:
        """Write the list of the blocks, once all of them are there."""
        if self._block:
            self._end_block()
        self._digests += [waiting.result() for waiting in self._waiting]
        sizes = np.array(self._sizes, dtype=np.int64)
        even = len(sizes) == 0 or bool((sizes == sizes[0]).all())
        bounds = [0, sizes[0] if len(sizes) else 0] if even else np.concatenate([[0], np.cumsum(sizes)])
        np.savez(
            self._path,
            digests=np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, 32),
            rows=np.array(self._rows, dtype=np.int64),
            bounds=np.array(bounds, dtype=np.int64),
        )


@contextmanager
def block_writers(paths: Iterable[Path], state: State) -> Iterator[list[BlockWriter]]:
    """A writer for each of the files that list blocks, which are written at the end of the body."""
    with ThreadPoolExecutor(_WRITES_AT_ONCE) as pool:
        writers = [BlockWriter(path, state, pool) for path in paths]
        yield writers
        for writer in writers:
            writer.finish()
