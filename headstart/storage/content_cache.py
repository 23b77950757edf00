"""A content-addressed cache: files by key in one folder that processes share, bounded in size.

    <ke>/<key>        a whole file, which is never changed
    <ke>/<key>.part   a file that is being made; a killed maker leaves it to the next one
    <ke>/<key>.parts  the maker's notes of its progress
    <ke>/<key>.lock   held while a file is made

What lies there only saves time and may be removed. A file that a live process uses or makes stays whatever the limit
is: it is in use as long as somebody has it open with a shared lock on it. A file's time of access says when it was used
last; its time of modification stays that of its content.
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

# A process looks at the folder again once it has added this part of the limit, and leaves room for as much.
_SLACK = 10
# A draft that nobody has renamed or removed for so long belongs to a process that was killed.
_DEAD_AFTER_SECONDS = 900

_FOLDER = re.compile(r"[0-9a-f]{2}")
_CONTENT = re.compile(r"[0-9a-f]{32,64}(\.part)?")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32,64}\..+|[0-9a-f]{32,64}\.lock")

_looking = Lock()
_unchecked: dict[Path, int] = {}
"""How many more bytes may come into each cache's folder before this process looks at it again."""


class Draft(NamedTuple):
    """The file to make, and a file for notes; both may be there already, from a maker that was killed."""

    path: Path
    notes: Path


@dataclass(frozen=True)
class ContentCache:
    """The files below `folder`, of at most `limit` bytes together; None stands for `default_limit`, or half of the
    space that they and nobody else use if that is less."""

    folder: Path
    default_limit: int
    limit: int | None = None

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
        """The file of `key`, open for reading and in use until it is closed; `make` fills it if it is not there.

        One process at a time makes it, and others wait. A file that is not intact is made again. What `make` raises
        leaves its draft to the next call. `key` is a digest in hexadecimal digits of all that decides the content.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / key[:2] / key
        if found := _in_use(path, is_intact):
            return found
        # Imported here, as it takes longer than to find most files.
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        guard = path.with_suffix(".lock")
        with FileLock(guard):
            try:
                file = _in_use(path, is_intact) or self._made(path, make)
            finally:
                # Whoever waits for it notices that it is gone, and takes a new one.
                guard.unlink(missing_ok=True)
        self._make_room(os.fstat(file.fileno()).st_size)
        return file

    def _made(self, path: Path, make: Callable[[Draft], None]) -> BinaryIO:
        draft = Draft(path.with_suffix(".part"), path.with_suffix(".parts"))
        make(draft)
        with draft.path.open("rb") as file:
            # There is no moment at which it has its name and is not in use.
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
        """Make room again, now that `came` bytes are new.

        The folder is looked at when this process first adds to it, and then once in a tenth of the limit.
        """
        with _looking:
            _unchecked[self.folder] = _unchecked.get(self.folder, 0) - came
            if _unchecked[self.folder] <= 0:
                self._remove_unused()

    def _remove_unused(self, coming: int = 0) -> None:
        """Remove what was unused for longest until `coming` bytes fit; what cannot be removed stays."""
        files, limit = sorted(_files(self.folder), key=lambda file: file.used), self.capacity
        excess = sum(file.size for file in files) + coming - (limit - limit // _SLACK)
        for file in files:
            if excess > 0 and _is_removed(file):
                excess -= file.size
        _unchecked[self.folder] = limit // _SLACK


def _in_use(path: Path, is_intact: Callable[[BinaryIO], bool]) -> BinaryIO | None:
    """The file, marked as in use; None if it is not there, or not intact."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    _share(file)
    # It may have been removed before it was in use.
    if _stands_at(file.fileno(), path) and is_intact(file):
        note_use(file.fileno())
        return file
    file.close()
    return None


def _share(file: IO[bytes]) -> None:
    """Marks an open file as in use until it is closed. filelock has no shared locks on a file itself."""
    # Some network file systems know no locks; on those, nothing is ever removed.
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)


def note_use(handle: int) -> None:
    """Sets an open file's time of access to now."""
    # The cache may be another user's, from which one only reads.
    with suppress(OSError):
        os.utime(handle, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))


def _stands_at(handle: int, path: Path) -> bool:
    """Whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class _File(NamedTuple):
    path: Path
    used: float
    size: int


def _files(folder: Path) -> Iterator[_File]:
    """The cache's files and drafts in the folder, and nothing else that somebody keeps there."""
    now = time.time()
    for inner in os.scandir(folder):
        if not (_FOLDER.fullmatch(inner.name) and inner.is_dir(follow_symlinks=False)):
            continue
        for entry in os.scandir(inner):
            is_leftover = _LEFTOVER.fullmatch(entry.name) is not None
            # Another process may be removing files as well.
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if (is_leftover and now - status.st_mtime > _DEAD_AFTER_SECONDS) or _CONTENT.fullmatch(entry.name):
                    yield _File(Path(entry.path), _last_use(status), status.st_size)


def _last_use(status: os.stat_result) -> float:
    """In seconds since 1970; of a draft, when it grew."""
    return max(status.st_atime, status.st_mtime)


def _is_removed(file: _File) -> bool:
    """Removes a file unless somebody uses or makes it, or has used it since it was seen."""
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
