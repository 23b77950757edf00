"""Content-addressed cache: files by key in one folder, shared by processes and limited in size.

    <ke>/<key>        a complete file, never changed
    <ke>/<key>.part   a file in the making, which the next process continues if its maker was killed
    <ke>/<key>.parts  the maker's notes of its progress
    <ke>/<key>.lock   held while a file is made

The content only saves time and may be deleted. Files that a live process uses or makes are kept whatever the limit: a
file is in use as long as a process has it open with a shared lock. A file's access time is its last use; its
modification time is that of its content.
"""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, BinaryIO, NamedTuple

# A temporary file unchanged for this long belongs to a killed process.
_DEAD_AFTER_SECONDS = 900

_FOLDER = re.compile(r"[0-9a-f]{2}")
_CONTENT = re.compile(r"[0-9a-f]{32,64}(\.part)?")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32,64}\..+|[0-9a-f]{32,64}\.lock")

_looking = Lock()
_unchecked: dict[Path, int] = {}
"""Bytes that each cache folder may still grow by before this process scans it again."""


class Draft(NamedTuple):
    """The file to make and a file for notes; both may exist already, left by a killed process."""

    path: Path
    notes: Path


@dataclass(frozen=True)
class ContentCache:
    """The files below `folder`, of at most `limit` bytes together; None stands for `default_limit`, or half of the
    space that they and nobody else use if that is less.

    A process scans the folder again after it has added the share `spare` of the limit, and keeps as much room free.
    """

    folder: Path
    default_limit: int
    limit: int | None = None
    spare: float = 0.1

    @property
    def capacity(self) -> int:
        """The bytes that all files together may take."""
        if self.limit is not None:
            return self.limit
        self.folder.mkdir(parents=True, exist_ok=True)
        used = sum(file.size for file in _files(self.folder))
        return min(self.default_limit, (used + shutil.disk_usage(self.folder).free) // 2)

    def get(
        self, key: str, make: Callable[[Draft], None], is_intact: Callable[[BinaryIO], bool] = lambda file: True
    ) -> BinaryIO:
        """Return the file of `key`, open for reading and in use until it is closed; `make` creates a missing one.

        Only one process at a time makes it; others wait. A file that is not intact is made again. If `make` raises, its
        draft is left for the next call. `key` is a hexadecimal digest of everything that determines the content.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / key[:2] / key
        if found := _in_use(path, is_intact):
            return found
        # Imported late: the import takes longer than most cache hits.
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        guard = path.with_suffix(".lock")
        with FileLock(guard):
            try:
                file = _in_use(path, is_intact) or self._made(path, make)
            finally:
                # Processes waiting for the lock notice the removal and create a new one.
                guard.unlink(missing_ok=True)
        self._make_room(os.fstat(file.fileno()).st_size)
        return file

    def _made(self, path: Path, make: Callable[[Draft], None]) -> BinaryIO:
        draft = Draft(path.with_suffix(".part"), path.with_suffix(".parts"))
        make(draft)
        with draft.path.open("rb") as file:
            # Locked before and after the rename, so that the named file is in use at every moment.
            _share(file)
            os.replace(draft.path, path)
            named = path.open("rb")
            _share(named)
        draft.notes.unlink(missing_ok=True)
        return named

    def reserve(self, size: int) -> None:
        """Make room for a large file before it is made; OSError if it is larger than all files may be."""
        if size > (capacity := self.capacity):
            raise OSError(errno.ENOSPC, f"{size / 2**30:.1f} GiB, where there may be {capacity / 2**30:.1f}")
        with _looking:
            self._remove_unused(size)

    def _make_room(self, came: int) -> None:
        """Make room again, now that `came` bytes are new."""
        with _looking:
            _unchecked[self.folder] = _unchecked.get(self.folder, 0) - came
            if _unchecked[self.folder] <= 0:
                self._remove_unused()

    def _remove_unused(self, coming: int = 0) -> None:
        """Remove what was unused for longest until `coming` bytes fit; what cannot be removed stays."""
        files, limit = sorted(_files(self.folder), key=lambda file: file.used), self.capacity
        _unchecked[self.folder] = int(limit * self.spare)
        excess = sum(file.size for file in files) + coming - limit + _unchecked[self.folder]
        for file in files:
            if excess > 0 and _is_removed(file):
                excess -= file.size


def _in_use(path: Path, is_intact: Callable[[BinaryIO], bool]) -> BinaryIO | None:
    """Return the file, marked as in use; None if it is missing or not intact."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    _share(file)
    # It may have been deleted between opening and locking.
    if _stands_at(file.fileno(), path) and is_intact(file):
        note_use(file.fileno())
        return file
    file.close()
    return None


def _share(file: IO[bytes]) -> None:
    """Mark an open file as in use until it is closed. filelock has no shared locks on the file itself."""
    # Some network file systems have no locks; there, files are never deleted.
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)


def note_use(handle: int) -> None:
    """Set an open file's access time to now."""
    # The cache may belong to another user and be read-only.
    with suppress(OSError):
        os.utime(handle, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))


def _stands_at(handle: int, path: Path) -> bool:
    """Return whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class _File(NamedTuple):
    path: Path
    used: float
    size: int


def _files(folder: Path) -> Iterator[_File]:
    """Yield the cache's files and drafts in the folder; other files there are ignored."""
    now = time.time()
    for inner in os.scandir(folder):
        if not (_FOLDER.fullmatch(inner.name) and inner.is_dir(follow_symlinks=False)):
            continue
        for entry in os.scandir(inner):
            is_leftover = _LEFTOVER.fullmatch(entry.name) is not None
            # Another process may be deleting files too.
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if (is_leftover and now - status.st_mtime > _DEAD_AFTER_SECONDS) or _CONTENT.fullmatch(entry.name):
                    yield _File(Path(entry.path), _last_use(status), status.st_size)


def _last_use(status: os.stat_result) -> float:
    """Return the last use in seconds since 1970; for a draft, the last write."""
    return max(status.st_atime, status.st_mtime)


def _is_removed(file: _File) -> bool:
    """Delete a file, unless a process uses or makes it or has used it since the scan; return whether it is gone."""
    from filelock import FileLock, Timeout

    with suppress(OSError, Timeout):
        if file.path.suffix != ".part":
            return _is_unlinked(file)
        guard = file.path.with_suffix(".lock")
        with FileLock(guard, timeout=0):
            removed = _is_unlinked(file)
            if removed:
                file.path.with_suffix(".parts").unlink(missing_ok=True)
            guard.unlink(missing_ok=True)
            return removed
    return False


def _is_unlinked(file: _File) -> bool:
    try:
        with file.path.open("rb+") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _last_use(file.path.stat()) != file.used or not _stands_at(opened.fileno(), file.path):
                return False
            file.path.unlink()
    except FileNotFoundError:
        pass
    return True
