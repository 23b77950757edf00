"""Archives: .zip, .tar and .tar.gz as trees. Member names never reach the file system, so none can escape a folder.

Members are read in place; only a compressed tar is unpacked, to one anonymous file. Absolute paths, paths with `..`,
links, devices, encrypted and repeated members are refused one by one. A damaged archive, a decompression bomb, or one
with too many members is refused as a whole.
"""

import gzip
import os
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from stat import S_IFMT, S_ISLNK, S_ISREG
from typing import IO, BinaryIO

from headstart.data.kind import Kind, Source, Wanted, kind_of
from headstart.data.limits import MAX_BYTES, MAX_RATIO, MIB, allowed, allowed_entries
from headstart.data.listing import SPLIT_NAMES, Listing, Refusal
from headstart.data.tree import TOO_LARGE, NamedTree, Tree, join, one_line, state_of
from headstart.errors import HeadstartError, InputError
from headstart.modalities import UnreadableSample

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_CHUNK = MIB
# A zip archive's end record and the longest comment after it.
_ZIP_END_BYTES = 22 + 2**16
# Bytes per file in a zip archive's central directory: 46, and a name of moderate length.
_DIRECTORY_BYTES = 160
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


class Archive(Kind):
    suffixes = (".zip", ".tar", ".tar.gz", ".tgz")

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the samples of the folder in an archive, which may be of any other kind."""
        assert source.path is not None  # noqa: S101 - it claims files only
        opened = _opened(source.path, source.name, wanted.modality.extensions, wanted.scratch)
        inside = Source(source.name, tree=wanted.resources.enter_context(opened))
        return kind_of(inside).list(inside, wanted)


@contextmanager
def _opened(path: Path, name: str, extensions: Set[str], scratch: Path | None = None) -> Iterator[Tree]:
    """Open the archive at `path`, called `name` in messages, as the tree of the folder that holds its data.

    If an archive has a single top folder that wraps the rest, paths are relative to that, as in the folder from which
    the archive was made. `scratch` is the folder in which a compressed tar is unpacked.

    Raises:
        InputError: it is damaged, encrypted as a whole, or a decompression bomb.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            status = os.fstat(file.fileno())
            if name.lower().endswith(".zip"):
                check_directory(file, status.st_size, name)
                archive = stack.enter_context(zipfile.ZipFile(file))
                tree: NamedTree = _ZipTree(archive, status, name)
            elif name.lower().endswith(".tar"):
                tree = _TarTree(file, status, name)
            else:
                unpacked = stack.enter_context(gunzipped(file, status.st_size, name, scratch))
                tree = _TarTree(unpacked, status, name)
        # Hostile bytes make the modules raise these too.
        except (*_DAMAGED, tarfile.TarError, OSError, ValueError, struct.error) as error:
            raise InputError(f"The archive {name} is damaged ({one_line(error)}); fetch or pack it again.") from error
        _pass_over_wrapping(tree, extensions)
        yield tree


@contextmanager
def gunzipped(file: IO[bytes], packed: int, name: str, scratch: Path | None) -> Iterator[BinaryIO]:
    """Yield the content of a gzip file in an anonymous temporary file; `packed` is its compressed size.

    Raises:
        InputError: it is damaged or a decompression bomb.
    """
    with tempfile.TemporaryFile(dir=scratch) as unpacked:
        limit = allowed(packed)
        try:
            with gzip.GzipFile(fileobj=file) as content:
                while chunk := content.read(_CHUNK):
                    if unpacked.tell() + len(chunk) > limit:
                        raise InputError(
                            f"{name} expands to more than {MAX_RATIO} times its size, as a bomb does; it is not read."
                        )
                    _write(unpacked, chunk, name)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{name} is damaged ({error}); fetch or pack it again.") from error
        unpacked.seek(0)
        yield unpacked


def safe_path(name: str) -> tuple[str, str | None]:
    """Return a member's path with slashes and without ".", and the reason for refusing it, or None."""
    path = name.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        return name, "its path is absolute"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return name, "its path leads out of the archive"
    if not parts or _CONTROL.search(path):
        return name, "its name is empty or has control characters"
    return "/".join(parts), None


class _Names:
    """The paths of an archive's members, collected one by one."""

    def __init__(self, name: str, packed: int) -> None:
        self._archive, self._limit = name, allowed_entries(packed)
        self.files: dict[str, str | None] = {}
        self.refused: list[Refusal] = []

    def add(self, name: str, refusal: str | None) -> str:
        """Add a member and return its normalised path."""
        path, reason = safe_path(name)
        if reason is not None:
            self.refused.append(Refusal(_printable(path), reason))
        else:
            # Programs differ in which of two equal names they read, so a person could inspect one and train on the
            # other.
            twice = "the archive has more than one file of this name" if path in self.files else None
            self.files[path] = twice or refusal
        if len(self.files) + len(self.refused) > self._limit:
            raise _too_many(self._archive, self._limit)
        return path


class _ZipTree(NamedTree):
    def __init__(self, archive: zipfile.ZipFile, status: os.stat_result, name: str) -> None:
        self._archive, self._state = archive, state_of(status)
        self._members: dict[str, zipfile.ZipInfo] = {}
        if sum(member.file_size for member in archive.infolist()) > allowed(status.st_size):
            raise InputError(
                f"The archive {name} expands to more than {MAX_RATIO} times its size, as a bomb does; it is not read."
            )
        names = _Names(name, status.st_size)
        for member in archive.infolist():
            if not member.is_dir():
                self._members[names.add(member.filename, _zip_refusal(member))] = member
        super().__init__(name, names.files, names.refused)

    def read(self, path: str) -> bytes:
        member = self._members[self._at(path)]
        if member.file_size > MAX_BYTES:
            raise UnreadableSample(TOO_LARGE)
        try:
            with self._archive.open(member) as content:
                return content.read()
        except (*_DAMAGED, OSError, ValueError, struct.error) as error:
            raise UnreadableSample(f"it cannot be unpacked: {one_line(error)}") from error

    def open(self, path: str) -> BinaryIO:
        return self._archive.open(self._members[self._at(path)])  # type: ignore[return-value]

    def state(self, path: str) -> str:
        member = self._members[self._at(path)]
        return f"{self._state} {member.header_offset} {member.file_size} {member.CRC}"


class _TarTree(NamedTree):
    """A tree over an uncompressed tar, whose members are read at their offsets. `status` is that of the archive."""

    def __init__(self, file: BinaryIO, status: os.stat_result, name: str) -> None:
        self._file, self._state = file, state_of(status)
        self._members: dict[str, tuple[int, int]] = {}
        names = _Names(name, status.st_size)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if not member.isdir():
                    path = names.add(member.name, _tar_refusal(member))
                    self._members[path] = member.offset_data, member.size
                # tarfile would keep every member; a million take a gigabyte.
                archive.members = []  # type: ignore[attr-defined]
            _check_end(file, archive.offset)
        super().__init__(name, names.files, names.refused)

    def read(self, path: str) -> bytes:
        offset, size = self._members[self._at(path)]
        if size > MAX_BYTES:
            raise UnreadableSample(TOO_LARGE)
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) < size:
            raise UnreadableSample("the archive ends in the middle of it")
        return content

    def open(self, path: str) -> BinaryIO:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        offset, left = self._members[self._at(path)]
        while left and (chunk := os.pread(self._file.fileno(), min(_CHUNK, left), offset)):
            _write(copy, chunk, self.name)
            offset, left = offset + len(chunk), left - len(chunk)
        copy.seek(0)
        return copy

    def state(self, path: str) -> str:
        offset, size = self._members[self._at(path)]
        return f"{self._state} {offset} {size}"


def check_directory(file: BinaryIO, packed: int, name: str) -> None:
    """Check the size of a zip archive's central directory, which zipfile reads as a whole.

    It stands at the end (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.14 and 4.3.16). Damage there
    is left for zipfile to report.

    Raises:
        InputError: it is too long.
    """
    file.seek(max(0, packed - _ZIP_END_BYTES))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return
    (length,) = struct.unpack_from("<L", tail, at + 12)
    locator = tail[max(0, at - 20) : at]
    if len(locator) == 20 and locator.startswith(b"PK\x06\x07"):
        file.seek(min(packed, struct.unpack_from("<Q", locator, 8)[0]))
        record = file.read(56)
        length = struct.unpack_from("<Q", record, 40)[0] if len(record) == 56 else length
    if length > _DIRECTORY_BYTES * allowed_entries(packed):
        raise _too_many(name, allowed_entries(packed))


def _too_many(name: str, limit: int) -> InputError:
    return InputError(
        f"The archive {name} has more than {limit:,} files, too many for its size; unpack it and give the folder."
    )


def _zip_refusal(member: zipfile.ZipInfo) -> str | None:
    mode = member.external_attr >> 16
    if S_ISLNK(mode):
        return "a symbolic link"
    if S_IFMT(mode) and not S_ISREG(mode):
        return "not a regular file"
    if member.flag_bits & 1:
        return "it is encrypted"
    if member.file_size > max(MIB, MAX_RATIO * member.compress_size):
        return f"it expands to more than {MAX_RATIO} times its size"
    return None


def _tar_refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link"
    return None if member.isreg() and not member.issparse() else "not a regular file"


def _check_end(file: BinaryIO, offset: int) -> None:
    # tarfile treats an unreadable header, or a file cut between members, as the end and would omit the rest.
    file.seek(offset)
    end = file.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end mark: it was cut")
    if end.strip(b"\0"):
        raise tarfile.ReadError(f"the header at byte {offset} cannot be read")


def _pass_over_wrapping(tree: NamedTree, extensions: Set[str]) -> None:
    while True:
        shown = [e for e in tree.entries("") if not e.name.startswith(".") and e.name != "__MACOSX"]
        if len(shown) != 1 or not shown[0].folder or shown[0].name.lower() in SPLIT_NAMES:
            return
        below = tree.entries(shown[0].name)
        if any(not entry.folder and Path(entry.name).suffix.lower() in extensions for entry in below):
            return
        tree.root = join(tree.root, shown[0].name)


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _write(file: IO[bytes], chunk: bytes, name: str) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise HeadstartError(f"{name} cannot be unpacked ({error.strerror}); make room and run again.") from error


KIND = Archive()
