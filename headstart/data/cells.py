"""Cells: samples that stand in a table itself, kept in a file while the data set is prepared."""

import hashlib
import os
import tempfile
from array import array
from bisect import bisect_left
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from headstart.data.limits import MAX_BYTES
from headstart.data.tree import TOO_LARGE
from headstart.errors import HeadstartError
from headstart.modalities import UnreadableSample


class Cells:
    """The content of samples by path. It lies on the disk, for a table may be larger than memory, in a file without a
    name; several threads may read."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the file lies; None: where the system keeps temporary files."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed on leaving the context
        # Of each sample, in the order in which they were added: the hash of its path, where it ends, its digest. A
        # dictionary of millions would take four times the memory.
        self._hashes, self._ends, self._digests = array("q"), array("Q", [0]), bytearray()
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, path: str, content: bytes) -> str | None:
        """Keep a sample's content under its path; return the reason why it is refused, None if it is not."""
        if len(content) > MAX_BYTES:
            return TOO_LARGE
        self._file.write(content)
        self._hashes.append(hash(path))
        self._ends.append(self._ends[-1] + len(content))
        self._digests += hashlib.sha256(content).digest()
        return None

    def read(self, path: str) -> bytes:
        """The content of a sample.

        Raises:
            UnreadableSample: it cannot be read again.
        """
        number = self._number(path)
        if number is None:
            raise UnreadableSample("there is no such row")
        start, end = self._ends[number], self._ends[number + 1]
        try:
            # What was added may still be in the writer's buffer.
            self._file.flush()
            return os.pread(self._file.fileno(), end - start, start)
        except OSError as error:
            raise UnreadableSample(f"the row cannot be read again: {error.strerror}") from error

    def sha256(self, path: str) -> str | None:
        """The SHA-256 (hex) of a sample's content; None for a path that was not added."""
        number = self._number(path)
        return None if number is None else self._digests[32 * number : 32 * number + 32].hex()

    def _number(self, path: str) -> int | None:
        """The number of a sample, in the order in which they were added; None for a path that was not."""
        found = hash(path)
        # Most are asked for in their order.
        following = self._last + 1
        if following < len(self._hashes) and self._hashes[following] == found:
            self._last = following
            return following
        hashes, order = self._sorted
        place = bisect_left(hashes, found)
        if place == len(hashes) or hashes[place] != found:
            return None
        self._last = order[place]
        return self._last

    @cached_property
    def _sorted(self) -> "tuple[array[int], array[int]]":
        """The hashes of paths in their order, and the number of each one's sample; nothing is added any more."""
        hashes = np.frombuffer(self._hashes, np.int64) if self._hashes else np.empty(0, np.int64)
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] == hashes[:-1]).any():
            # Once in millions of data sets of a million rows; a process hashes in a way of its own.
            raise HeadstartError("The names of two rows have the same hash; run again.")
        return array("q", hashes.tobytes()), array("q", order.astype(np.int64).tobytes())
