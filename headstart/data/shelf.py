"""Shelf: the files with the arrays of shards, of which some lie in the state until they are needed.

A folder holds as many bytes of them as it may; the others are brought a few at a time, or read in part where they lie.
What the state has no longer, or damaged, is read anew from its files.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from headstart.data.parallel import processors
from headstart.storage.state import State

FOLDER = "parts"
"""The folder of the state in which shards lie."""


@dataclass(frozen=True)
class Arrays:
    """The arrays in a shard's file, one after the other: the byte at which each begins, and the last ends, int64
    (n + 1,), and the CRC-32 of each, (n,)."""

    bounds: np.ndarray
    checksums: np.ndarray

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return int(self.bounds[-1])

    def are_in(self, path: Path) -> bool:
        """Whether a file is there and has all of them intact."""
        try:
            with path.open("rb") as file:
                return all(
                    zlib.crc32(file.read(size)) == checksum
                    for size, checksum in zip(np.diff(self.bounds).tolist(), self.checksums.tolist(), strict=True)
                )
        except OSError:
            return False

    def has(self, content: bytes | None, start: int) -> bool:
        """Whether a content is that of the array which begins at this byte."""
        number = int(np.searchsorted(self.bounds, start, side="right")) - 1
        return content is not None and zlib.crc32(content) == int(self.checksums[number])


class Shelf:
    """The files with arrays of one listing's shards."""

    def __init__(self, kept: State | None, most: int | None, anew: Callable[[Path], None]) -> None:
        """`kept` is the state in which some lie and others may be left; `most` the bytes of them that may lie in their
        folder, any number where it is None; `anew` writes a file by reading its samples again."""
        self._kept, self._room, self._anew = kept, most, anew
        self._lock = Lock()
        self._there: dict[Path, Arrays] = {}
        names = kept.names(f"{FOLDER}/") if kept is not None else []
        self._names = frozenset(name.removeprefix(f"{FOLDER}/") for name in names)

    def fetch(self, path: Path) -> bool:
        """Bring a file to its place; False if the state does not have it."""
        if self._kept is None or path.name not in self._names:
            return False
        path.unlink(missing_ok=True)
        return self._kept.get(_named(path), path)

    def take(self, path: Path, arrays: Arrays) -> bool:
        """Take the file at `path`, or the one that the state has, where the folder has no room for it as it lies there;
        False if neither has these arrays."""
        if arrays.are_in(path):
            self._has_room(arrays.size)
            return True
        if path.name not in self._names:
            return False
        if self._has_room(arrays.size):
            return self.fetch(path) and arrays.are_in(path)
        path.unlink(missing_ok=True)
        self._there[path] = arrays
        return True

    def leave(self, path: Path, record: Path | None, arrays: Arrays) -> None:
        """Leave a file that was just written in its place, or in the state with its record where the folder has no room
        for it."""
        if self._has_room(arrays.size) or self._kept is None or record is None:
            return
        keep(self._kept, path, record)
        path.unlink()
        self._there[path] = arrays

    def _has_room(self, size: int) -> bool:
        with self._lock:
            if self._room is None:
                return True
            if size > self._room:
                return False
            self._room -= size
            return True

    def content(self, path: Path, start: int, size: int) -> bytes:
        """The bytes of one array."""
        if not size:
            return b""
        if (arrays := self._there.get(path)) is not None and self._kept is not None:
            found = self._kept.read_part(_named(path), start, size)
            if found is not None and arrays.has(found, start):
                return found
            self._anew(path)
            del self._there[path]
        handle = os.open(path, os.O_RDONLY)
        try:
            return os.pread(handle, size, start)
        finally:
            os.close(handle)

    @contextmanager
    def brought(self, paths: Iterable[Path]) -> Iterator[None]:
        """All of these files are in their places while the body runs, and read from there."""
        there = {path: self._there.pop(path) for path in paths if path in self._there}
        with ThreadPoolExecutor(2 * processors()) as pool:
            intact = list(pool.map(lambda path: self.fetch(path) and there[path].are_in(path), there))
        for path, is_intact in zip(there, intact, strict=True):
            if not is_intact:
                self._anew(path)
        yield
        for path in there:
            path.unlink()
        self._there.update(there)


def keep(state: State, arrays: Path, record: Path) -> None:
    """Leave the files of a shard in the state; the record, which says that the arrays are there, comes last."""
    for path in (arrays, record):
        state.put(path, _named(path))


def _named(path: Path) -> str:
    return f"{FOLDER}/{path.name}"
