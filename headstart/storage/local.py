"""Atomic writes: a reader finds a whole file or directory, or none."""

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
"""Bytes of a file that `read_json` reads. A description of a million classes has half of that."""

# In the names of directories that nobody may see yet, so that no other is ever taken for one.
_DRAFT = ".headstart-draft-"
_WORK = ".headstart-work-"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` so that after a crash at any moment `path` holds all of it or what it held before."""
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
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` of indented JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no JSON, or JSON that nobody needs: nested deeper than Python goes, a number of thousands
            of digits, or more than `JSON_LIMIT` bytes.
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
    """headstart's folder in the user's cache, as the XDG base directory specification has it; None without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "headstart"
    try:
        return Path.home() / ".cache" / "headstart"
    except RuntimeError:
        return None


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory beside `path` to fill; renamed to `path` at the end, removed if the body raises.

    What stood at `path` before is replaced. The rename is the commit: nobody ever sees a half-filled `path`. What a
    process that was killed has left of an earlier attempt is removed.
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
    """A hidden directory beside `path` for what it takes to make that; in it is what processes that were killed or
    interrupted on the way have left in theirs.

    It is of this process alone. It is removed at the end and where the body fails, and kept for the next process where
    an interrupt ends this one.
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
    """Has the disk hold every file below `directory`, which a rename alone would not wait for: after a crash of the
    machine, whole files are there and not empty ones."""
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
    """A new hidden directory beside `path`, locked, which says that a process uses it; its end lets go of it."""
    while True:
        directory = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{kind}"))
        # Another process may take it for abandoned before it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY)
            # Some network file systems know no locks; on those, nothing is ever taken for abandoned.
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
    """The hidden directories of processes that are gone, each locked as long as it is looked at and then removed."""
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
    """Renames `draft` to `path` in place of what stands there; False if another process came in between."""
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
    # The process's umask can only be read by setting it; mkstemp and mkdtemp ignore it and make private files.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
