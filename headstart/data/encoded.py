"""Encoded store: a split's samples in the smaller form of their modality's codec, decoded on access.

File format: the samples, one after the other; then the end offset and CRC-32 of each; then their number and a magic
mark. Truncated or overwritten content is thereby detected.
"""

import struct
import zlib
from array import array
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.parallel import in_order, processors
from headstart.errors import InputError
from headstart.modalities.codec import Codec

_ENTRY = np.dtype([("end", "<u8"), ("checksum", "<u4")])
_TAIL = struct.Struct("<Q8s")
_MARK = b"hs-jpegs"
# More threads would wait for the GIL, which is held for a tenth of a picture's decoding time.
_MOST_THREADS = 16
# Bytes of decoded pictures for which one more thread pays off.
_THREAD_BYTES = 2**20


def write_encoded(path: Path, samples: Iterable[np.ndarray], codec: Codec) -> None:
    """Write stored arrays in their order, in the format of `EncodedSamples`.

    They are consumed lazily, with at most some hundred in memory, and must not change afterwards.
    """
    threads = _threads()
    with ThreadPoolExecutor(threads) as pool:
        _write(path, in_order(pool, codec.encode, samples, ahead=4 * threads))


class EncodedSamples:
    """The samples in a file of `write_encoded`, as an array uint8 (N, …) that is indexed along its first axis.

    `samples[rows]` decodes and copies the chosen rows, with NumPy's semantics: a position, a slice, positions in any
    order or a mask. Threads and processes, forked ones included, may read concurrently.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, shape: tuple[int, ...], codec: Codec) -> None:
        """Open the file and check it against `shape`, (N, …).

        Raises:
            InputError: it is damaged or holds another number of samples.
        """
        self.shape, self.ndim = shape, len(shape)
        self._path, self._codec = path, codec
        self._rows = np.arange(shape[0])
        try:
            self._content = np.memmap(path, np.uint8, mode="r").data
            count, mark = _TAIL.unpack(self._content[-_TAIL.size :])
        except (OSError, ValueError, struct.error):
            raise self._damaged() from None
        if mark != _MARK:
            raise self._damaged()
        if count != shape[0]:
            raise InputError(f"{path} holds {count} samples instead of {shape[0]}; prepare the data set again.")
        end = len(self._content) - _TAIL.size - count * _ENTRY.itemsize
        if end < 0:
            raise self._damaged()
        entries = np.frombuffer(self._content[end : -_TAIL.size].tobytes(), _ENTRY)
        self._bounds = np.concatenate([[0], entries["end"].astype(np.int64)])
        self._checksums = entries["checksum"]
        if self._bounds[-1] != end or (np.diff(self._bounds) <= 0).any():
            raise self._damaged()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Decode the samples at `rows`.

        Raises:
            InputError: a sample is damaged; the message names the file and the sample.
        """
        chosen = np.asarray(self._rows[rows])
        values = np.empty((chosen.size, *self.shape[1:]), dtype=np.uint8)
        # In the order in which they lie.
        work = sorted(zip(chosen.ravel().tolist(), values, strict=True), key=itemgetter(0))
        threads = min(_threads(), values.nbytes // _THREAD_BYTES)
        if threads < 2:
            self._decode(work)
        else:
            # A pool for this call only: the threads of a permanent pool do not survive a fork.
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(self._decode, (work[start::threads] for start in range(threads))):
                    pass
        return values.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("samples that are decoded are always a copy")
        return np.asarray(self[:], dtype=dtype)

    def write_rows(self, rows: np.ndarray, path: Path) -> None:
        """Write the samples at positions `rows`, int (n,), in that order, to another such file, without
        decoding them."""
        _write(path, (self._encoded(row) for row in self._rows[rows].tolist()))

    def _decode(self, work: list[tuple[int, np.ndarray]]) -> None:
        """Decode each row into its array."""
        for row, values in work:
            content = self._encoded(row)
            try:
                self._codec.decode(content, values)
            # Decoders raise exceptions of many types.
            except Exception:
                raise self._damaged(row) from None

    def _encoded(self, row: int) -> bytes:
        content = self._content[self._bounds[row] : self._bounds[row + 1]].tobytes()
        if zlib.crc32(content) != self._checksums[row]:
            raise self._damaged(row)
        return content

    def _damaged(self, row: int | None = None) -> InputError:
        place = f"{self._path}" if row is None else f"Sample {row} of {self._path}"
        return InputError(f"{place} is damaged; prepare the data set again.")


def _threads() -> int:
    return min(_MOST_THREADS, processors())


def _write(path: Path, contents: Iterable[bytes]) -> None:
    ends, checksums = array("Q"), array("I")
    end = 0
    with path.open("wb") as file:
        for content in contents:
            end += file.write(content)
            ends.append(end)
            checksums.append(zlib.crc32(content))
        entries = np.empty(len(ends), _ENTRY)
        entries["end"], entries["checksum"] = ends, checksums
        file.write(entries.tobytes())
        file.write(_TAIL.pack(len(entries), _MARK))
