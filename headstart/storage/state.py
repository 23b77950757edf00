"""State of steps that outlives them: prepared data, checkpoints, frozen features, measured choices.

`HEADSTART_STATE` names its location: a directory (on a cluster, in a mounted volume) or s3://bucket/prefix. It only
saves work: a retried step finds it again, and recreates what is missing.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from headstart.errors import InputError
from headstart.storage import s3
from headstart.storage.local import sync_file

STATE_VARIABLE = "HEADSTART_STATE"

# No part of a name begins with a dot, so a name cannot contain ".." or refer to a draft.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")

# What nobody came back for in two weeks, over holidays, is not needed any more.
_KEPT_SECONDS = 14 * 24 * 3600

_DRAFTS = ".drafts"
# A draft unchanged for this long belongs to a killed process.
_DEAD_AFTER_SECONDS = 900


class State:
    """Files under names such as "checkpoints/1f3a.safetensors", each complete or absent.

    Args:
        location: a directory, created if missing, or s3://bucket/prefix.

    Raises:
        InputError: the directory cannot be created, or `location` is of another kind.
    """

    def __init__(self, location: str) -> None:
        self._remote = location.rstrip("/") if s3.is_s3(location) else None
        if self._remote is None:
            if "://" in location:
                raise InputError(
                    f"{STATE_VARIABLE} is {location}, which is neither a directory nor s3://bucket/prefix; correct it."
                )
            self._directory = Path(location).absolute()
            _make_directory(self._directory)

    @classmethod
    def existing(cls, location: str) -> "State":
        """Return the state at `location`, where something was kept before.

        Raises:
            InputError: it is a directory that is not there.
        """
        if not s3.is_s3(location) and not Path(location).is_dir():
            raise InputError(f"The directory {location} of a state is not there; mount it at this place.")
        return cls(location)

    @classmethod
    def from_environment(cls) -> "State | None":
        """Return the state at `HEADSTART_STATE`; None if that is not set."""
        location = os.environ.get(STATE_VARIABLE)
        return cls(location) if location else None

    @classmethod
    def required(cls, purpose: str) -> "State":
        """Return the state at `HEADSTART_STATE` for a step that cannot do without it.

        Raises:
            InputError: it is not set; `purpose` is the step's, as the end of a sentence.
        """
        state = cls.from_environment()
        if state is None:
            raise InputError(
                f"{STATE_VARIABLE} is not set, without which no step can {purpose}; set it to a directory that all "
                "steps share, or to s3://bucket/prefix."
            )
        return state

    @cached_property
    def folder(self) -> Path:
        """A local directory for files to be memory-mapped: the state's own, or a cache of its content in S3."""
        if self._remote is None:
            return self._directory
        # Shared by all processes of this user, which may be the ranks of one training.
        owner = Path(tempfile.gettempdir()) / f"headstart-{os.getuid()}"
        folder = owner / hashlib.sha256(self._remote.encode()).hexdigest()[:16]
        _make_directory(owner, mode=0o700)
        # The folder for temporary files is writable by others, who may have created this directory first.
        found = owner.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise InputError(f"{owner} belongs to somebody else; remove it, or set TMPDIR to a directory of your own.")
        _make_directory(folder)
        return folder

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield the path of a file to write and then `put` without a copy; it is deleted at the end."""
        drafts = self.folder / _DRAFTS
        _make_directory(drafts)
        for left in drafts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _DEAD_AFTER_SECONDS:
                    left.unlink()
        path = drafts / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def put(self, file: Path, name: str) -> None:
        """Store the content of `file` under `name` atomically.

        On the state's own file system this is a hard link, so `file` may be deleted but must not be changed in place. A
        file that is already in `folder` under its name is only flushed to disk.
        """
        _check(name)
        if self._remote is not None:
            s3.upload(file, self._uri(name))
            return
        path = self.folder / name
        sync_file(file)
        if path.exists() and path.samefile(file):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.draft() as link:
            _link_or_copy(file, link)
            os.replace(link, path)

    def get(self, name: str, file: Path) -> bool:
        """Write the content of `name` to `file`, which must not exist; return False if there is none.

        `file` may be a hard link to the state's own file, and must not be changed in place.
        """
        _check(name)
        try:
            if self._remote is not None:
                s3.download(self._uri(name), file)
            else:
                _link_or_copy(self.folder / name, file)
        except (FileNotFoundError, s3.UnreadableObject):
            return False
        return True

    @property
    def location(self) -> str:
        """The directory, or s3://bucket/prefix."""
        return self._remote or str(self._directory)

    @property
    def is_remote(self) -> bool:
        """Whether the state is in S3."""
        return self._remote is not None

    def write(self, name: str, content: bytes) -> None:
        """Store a small content under `name` atomically; in S3 by one request."""
        _check(name)
        if self._remote is not None:
            s3.write_object(self._uri(name), content)
            return
        with self.draft() as draft:
            draft.write_bytes(content)
            self.put(draft, name)

    def read(self, name: str, *, limit: int) -> bytes | None:
        """Return the content of `name`, in S3 by one request; None if there is none, or more than `limit` bytes."""
        _check(name)
        try:
            if self._remote is not None:
                return s3.read_object(self._uri(name), limit=limit)
            with (self.folder / name).open("rb") as file:
                content = file.read(limit + 1)
        except (FileNotFoundError, s3.UnreadableObject):
            return None
        return content if len(content) <= limit else None

    def read_part(self, name: str, start: int, length: int) -> bytes | None:
        """Return these bytes of the content of `name`, in S3 by one request; None if there is none, or not so many."""
        _check(name)
        try:
            if self._remote is not None:
                return s3.read_part(self._uri(name), start, length)
            with (self.folder / name).open("rb") as file:
                content = os.pread(file.fileno(), length, start)
        except (FileNotFoundError, s3.UnreadableObject):
            return None
        return content if len(content) == length else None

    def remove(self, name: str) -> None:
        """Delete `name`; do nothing if it is missing."""
        _check(name)
        if self._remote is not None:
            s3.remove_object(self._uri(name))
        else:
            (self.folder / name).unlink(missing_ok=True)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`, sorted."""
        return sorted(self._times(prefix))

    def names_before(self, prefix: str, moment: float) -> list[str]:
        """Return the names that begin with `prefix` and were last written before `moment` (seconds since
        1970), sorted."""
        return sorted(name for name, written in self._times(prefix).items() if written < moment)

    def forget(self, prefix: str, *, but: str | None = None) -> None:
        """Delete the names that begin with `prefix` and were last written more than 14 days ago, all `but` one."""
        for name in self.names_before(prefix, time.time() - _KEPT_SECONDS):
            if name != but:
                self.remove(name)

    def _times(self, prefix: str) -> dict[str, float]:
        """Return each name that begins with `prefix` with the time when it was last written."""
        where, _, _ = prefix.rpartition("/")
        if where:
            _check(where)
        found: dict[str, float] = {}
        if self._remote is not None:
            with contextlib.suppress(s3.UnreadableObject):
                for each in s3.list_objects(f"{self._uri(where)}/" if where else f"{self._remote}/"):
                    found[each.uri.removeprefix(f"{self._remote}/")] = each.written
        else:
            for path in (self.folder / where).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file():
                        found[path.relative_to(self.folder).as_posix()] = path.stat().st_mtime
        return {name: written for name, written in found.items() if name.startswith(prefix) and _NAME.fullmatch(name)}

    def _uri(self, name: str) -> str:
        return f"{self._remote}/{name}"


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of something that a step keeps; use letters, digits, dots, hyphens and "
            "underscores, and / between folders."
        )


def _make_directory(path: Path, mode: int = 0o777) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The directory {path}, in which steps keep what they may need again, cannot be made ({error.strerror}); "
            f"set {STATE_VARIABLE} to one that can."
        ) from error


def _link_or_copy(file: Path, path: Path) -> None:
    try:
        os.link(file, path)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(file, path)
        sync_file(path)
