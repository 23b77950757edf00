"""Atomic writes to local files and directories: a reader finds a complete one or none."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON_LIMIT = 64 * 2**20
"""Maximum number of bytes that `read_json` accepts; the description of a million classes takes half of that."""

# Markers in the names of hidden directories that are being filled; no other directories have them.
_DRAFT = ".headstart-draft-"
_WORK = ".headstart-work-"


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: after a crash, `path` holds all of it or its previous content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text by `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with sorted keys by `write_bytes`; equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read the JSON in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no JSON, or JSON beyond the limits: nested deeper than Python's recursion limit, a number
            of thousands of digits, or more than `JSON_LIMIT` bytes.
    """
    with path.open("rb") as file:
        content = file.read(JSON_LIMIT + 1)
    if len(content) > JSON_LIMIT:
        raise ValueError(f"it has more than {JSON_LIMIT // 2**20} MiB")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def user_cache() -> Path | None:
    """Return headstart's folder in the user's cache, by the XDG base directory specification; None without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "headstart"
    try:
        return Path.home() / ".cache" / "headstart"
    except RuntimeError:
        return None


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory next to `path`; rename it to `path` at the end, or delete it if the body raises.

    An existing `path` is replaced. The rename is the commit: a half-filled `path` is never visible. Directories left by
    killed processes are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in _abandoned(path, _DRAFT):
        pass
    with _hidden(path, _DRAFT) as draft:
        try:
            os.chmod(draft, 0o777 & ~_umask())
            yield draft
            while not _put(draft, path):
                pass
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


@contextlib.contextmanager
def resumed_directory(path: Path) -> Iterator[Path]:
    """Yield a hidden work directory next to `path`, with the files that killed or interrupted processes have left in
    theirs.

    It belongs to this process alone. It is deleted at the end and if the body fails, but kept for the next process
    after an interrupt.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _hidden(path, _WORK) as work:
        try:
            for abandoned in _abandoned(path, _WORK):
                for left in abandoned.iterdir():
                    os.replace(left, work / left.name)
            yield work
        except Exception:
            shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work)


def sync(directory: Path) -> None:
    """Flush every file below `directory` to disk, which a rename alone does not wait for. After a crash of the machine
    the files are complete, not empty."""
    for folder, _, names in os.walk(directory):
        for path in (*(Path(folder, name) for name in names), Path(folder)):
            sync_file(path)


def sync_file(path: Path) -> None:
    """Wait until the disk holds a file, or a directory's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _hidden(path: Path, kind: str) -> Iterator[Path]:
    """Create a hidden directory next to `path` and hold a lock on it, which marks it as used, while the body runs."""
    while True:
        directory = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{kind}"))
        # Before it is locked, another process may consider it abandoned and delete it.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY)
            # Some network file systems have no locks; there, no directory counts as abandoned.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if directory.exists():
                break
            os.close(lock)
    try:
        yield directory
    finally:
        os.close(lock)


def _abandoned(path: Path, kind: str) -> Iterator[Path]:
    """Yield the hidden directories of dead processes, each locked during the caller's turn and then deleted."""
    for directory in path.parent.glob(f".{glob.escape(path.name)}{kind}*/"):
        with contextlib.suppress(OSError):
            lock = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if directory.exists():
                    yield directory
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def _put(draft: Path, path: Path) -> bool:
    """Rename `draft` to `path`, replacing what is there; return False if another process interfered."""
    with _hidden(path, _DRAFT) as old:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, old / path.name)
            os.rename(draft, path)
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    # The umask can be read only by setting it; mkstemp and mkdtemp ignore it and create private files.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
