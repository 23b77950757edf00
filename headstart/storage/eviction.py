"""The most that the cache of objects holds: what was unused for longest makes room for what is new.

HEADSTART_CACHE_LIMIT is that limit in bytes. Else it is 50 GiB, or half of the space that the disk has for the cache if
that is less. What a live process uses or fetches stays whatever the limit is: a file is in use as long as somebody has
it open with a shared lock on it, a download as long as its lock is held. A file's time of access says when it was used
last; its time of modification stays that of its content.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from headstart.errors import InputError

LIMIT_VARIABLE = "HEADSTART_CACHE_LIMIT"

_DEFAULT_LIMIT = 50 * 2**30
# A process looks at the folder again once it has fetched one such part of the limit, and leaves room for as much.
_SLACK = 10
# Who has not renamed or removed what he wrote so long ago was killed.
_DEAD_AFTER_SECONDS = 900

_FOLDER = re.compile(r"[0-9a-f]{2}")
_CONTENT = re.compile(r"[0-9a-f]{64}(\.part)?")
_DRAFT = re.compile(r"\.[0-9a-f]{64}\..+|[0-9a-f]{64}\.lock")

_looking = Lock()
_unchecked: dict[Path, int] = {}
"""How many more bytes may come into each cache's folder before this process looks at it again."""


def given_limit() -> int | None:
    """The limit in bytes that the environment names; None where it names none. InputError if that is no number."""
    given = os.environ.get(LIMIT_VARIABLE)
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise InputError(f"{LIMIT_VARIABLE} is '{given}'; give a whole number of bytes, such as 50000000000.")
    return int(given)


def make_room(folder: Path, came: int, limit: int | None) -> None:
    """Removes from a cache's folder what was unused for longest, now that `came` bytes are new in it.

    The folder is looked at when this process first adds to it, and then once in a tenth of the limit. What cannot be
    removed stays.

    Args:
        limit: of `given_limit`; None for the default.
    """
    with _looking:
        _unchecked[folder] = _unchecked.get(folder, 0) - came
        if _unchecked[folder] <= 0:
            files = sorted(_files(folder), key=lambda file: file.used)
            total = sum(file.size for file in files)
            if limit is None:
                limit = min(_DEFAULT_LIMIT, (total + shutil.disk_usage(folder).free) // 2)
            _remove(files, total - (limit - limit // _SLACK))
            _unchecked[folder] = limit // _SLACK


def share(file: IO[bytes]) -> None:
    """Says that an open file is in use until it is closed."""
    # Some network file systems know no locks; on those, nothing is ever removed.
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)


def note_use(handle: int) -> None:
    """Says that an open file is used now."""
    # The cache may be another user's, from which one only reads.
    with suppress(OSError):
        os.utime(handle, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))


def stands_at(handle: int, path: Path) -> bool:
    """Whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _File:
    path: Path
    used: float
    size: int


def _files(folder: Path) -> Iterator[_File]:
    """What objects and half-fetched ones lie in the folder, and nothing else that somebody keeps there."""
    now = time.time()
    for inner in os.scandir(folder):
        if _FOLDER.fullmatch(inner.name) and inner.is_dir(follow_symlinks=False):
            for entry in os.scandir(inner):
                is_draft = _DRAFT.fullmatch(entry.name) is not None
                if not is_draft and not _CONTENT.fullmatch(entry.name):
                    continue
                # Another process may be removing files as well.
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if not is_draft or now - status.st_mtime > _DEAD_AFTER_SECONDS:
                        yield _File(Path(entry.path), _last_use(status), status.st_size)


def _last_use(status: os.stat_result) -> float:
    """In seconds since 1970; of a file that is still fetched, when it grew."""
    return max(status.st_atime, status.st_mtime)


def _remove(files: list[_File], excess: int) -> None:
    for file in files:
        if excess <= 0:
            return
        with suppress(OSError):
            if _is_gone(file):
                excess -= file.size


def _is_gone(file: _File) -> bool:
    """Removes a file unless somebody uses it, or has since it was seen; whether it is no longer there."""
    partial = file.path.suffix == ".part"
    guard = file.path.with_suffix(".lock") if partial else file.path
    try:
        handle = os.open(guard, os.O_RDWR | (os.O_CREAT if partial else 0), 0o600)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not stands_at(handle, guard):
            return False
        with suppress(FileNotFoundError):
            if _last_use(file.path.stat()) != file.used:
                return False
            file.path.unlink()
        if partial:
            file.path.with_suffix(".parts").unlink(missing_ok=True)
            guard.unlink()
        return True
    finally:
        os.close(handle)
