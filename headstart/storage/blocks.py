"""Blocks: contents of some MiB in the state that are read when they are needed, through this machine's cache.

A block is named by its SHA-256 and never changes. It is verified whenever it is opened, fetched again if the cache's
copy is damaged, and refused if the state's is. The cache holds as much as HEADSTART_CACHE_LIMIT says; what was unused
for longest leaves it, and processes share it.
"""

import hashlib
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from headstart.errors import HeadstartError, InputError
from headstart.storage import cache
from headstart.storage.state import State

_FOLDER = "blocks"
# Longer than a cluster reuses a step (MAXIMUM_CACHE_STALENESS, 30 days): what refers to a block goes first.
_KEPT_SECONDS = 35 * 24 * 3600
_THREADS = 8
# Reads, in multiples of the blocks that may be open.
_FORGOTTEN_AFTER = 64


def write_block(state: State, content: bytes) -> bytes:
    """Keep a content in the state and return its SHA-256."""
    digest = hashlib.sha256(content).digest()
    state.write(_name(digest.hex()), content)
    return digest


def forget_blocks(state: State) -> None:
    """Delete the blocks that were last written more than 35 days ago."""
    for name in state.names_before(f"{_FOLDER}/", time.time() - _KEPT_SECONDS):
        state.remove(name)


class Blocks:
    """The blocks of one file. The last `held` that were read are open, mapped into memory, and stay in the cache.

    Threads may read concurrently; a forked process reads on its own.
    """

    def __init__(self, state: State, digests: Sequence[bytes], sizes: Sequence[int], *, held: int, of: str) -> None:
        """`digests` are the SHA-256 of each block and `sizes` its bytes; `of` names the file in messages."""
        self._state, self._digests, self._sizes, self._held, self._of = state, digests, sizes, held, of
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._open: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._coming: dict[int, Future[mmap.mmap]] = {}
        self._read, self._requested_at = 0, dict[int, int]()
        self._pool: ThreadPoolExecutor | None = None

    def request(self, numbers: Iterable[int]) -> None:
        """Begin to open these blocks, in this order, those that are not open yet; threads do it side by side.

        No more than `held` are on their way or wait to be read; the rest of `numbers` is ignored. What fails is raised
        when the block is read.
        """
        self._survive_fork()
        with self._lock:
            for number in numbers:
                if number in self._open or number in self._coming:
                    continue
                if len(self._coming) >= self._held:
                    self._drop_forgotten()
                if len(self._coming) >= self._held:
                    return
                self._begin_to_open(number)

    def read(self, number: int) -> memoryview:
        """Return the content of a block.

        Raises:
            InputError: the state has it no longer, or the cache cannot be written.
            HeadstartError: its content in the state is damaged, or the state cannot be read.
        """
        self._survive_fork()
        with self._lock:
            self._read += 1
            if number in self._open:
                self._open.move_to_end(number)
                return memoryview(self._open[number])
            coming = self._coming.get(number) or self._begin_to_open(number)
        try:
            content = coming.result()
        finally:
            with self._lock:
                self._coming.pop(number, None)
        with self._lock:
            self._open[number] = content
            while len(self._open) > self._held:
                # Unmapped, and no longer in use, once nobody reads it.
                self._open.popitem(last=False)
        return memoryview(content)

    def _survive_fork(self) -> None:
        # Neither threads nor the locks that they held are there in a forked process.
        if self._process != os.getpid():
            self._begin()

    def _begin_to_open(self, number: int) -> "Future[mmap.mmap]":
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "blocks")
        self._coming[number] = coming = self._pool.submit(self._opened, number)
        self._requested_at[number] = self._read
        return coming

    def _drop_forgotten(self) -> None:
        """Close what came long ago and nobody read: whoever requested it has stopped."""
        for number, coming in list(self._coming.items()):
            if coming.done() and self._read - self._requested_at[number] > _FORGOTTEN_AFTER * self._held:
                del self._coming[number]

    def _opened(self, number: int) -> mmap.mmap:
        digest, size = self._digests[number].hex(), self._sizes[number]

        def make(draft: Path) -> None:
            draft.write_bytes(self._fetched(digest, size))

        def is_intact(file: BinaryIO) -> bool:
            # No more than that is read, nor less kept.
            return hashlib.sha256(file.read(size + 1)).hexdigest() == digest

        with cache.kept(digest, make, of=self._of, is_intact=is_intact) as file:
            # The map holds the file's lock, by which the cache knows that it is in use.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _fetched(self, digest: str, size: int) -> bytes:
        for _ in range(2):
            content = cache.retried(lambda: self._stored(digest, size))
            if content is None:
                raise InputError(
                    f"{self._of} lies in blocks of which the state no longer has one ({digest[:12]}); prepare the data "
                    "set again."
                )
            if hashlib.sha256(content).hexdigest() == digest:
                return content
        raise HeadstartError(
            f"{self._of} lies in blocks of which one is damaged in the state ({digest[:12]}); prepare the data set "
            "again."
        )

    def _stored(self, digest: str, size: int) -> bytes | None:
        try:
            return self._state.read(_name(digest), limit=size)
        except OSError as error:
            raise HeadstartError(
                f"{self._of} lies in blocks of which one cannot be read from the state ({error.strerror}); see to that "
                "and run again."
            ) from error


def _name(digest: str) -> str:
    return f"{_FOLDER}/{digest[:2]}/{digest}"
