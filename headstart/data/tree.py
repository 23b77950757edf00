"""Trees: folders and files by name, and the content of files, with one interface for disk, archive and S3."""

import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from headstart.data.limits import MAX_BYTES, MIB
from headstart.data.listing import Refusal
from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.storage.digests import sha256_of

TOO_LARGE = f"the file has more than {MAX_BYTES // MIB} MiB"


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """An entry of a folder; `refusal` is the reason why it is not read, or None."""

    name: str
    folder: bool = False
    refusal: str | None = field(default=None, compare=False)


class Tree(ABC):
    """Folders and files. Paths are relative to the root, with slashes; the root is "".

    `name` is for messages; `refused` lists what cannot be an entry. `readers` is the number of threads that reading can
    use; None: one for each processor.
    """

    name: str
    refused: list[Refusal]
    readers: int | None = None

    @abstractmethod
    def entries(self, folder: str) -> list[Entry]:
        """Return the entries of a folder, sorted by name."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a file of at most MAX_BYTES.

        Raises:
            UnreadableSample: it is larger or cannot be read.
        """

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file of any size."""

    @abstractmethod
    def state(self, path: str) -> str | None:
        """Return a text that changes whenever the file's content does, without reading it; None if there is none."""

    def sha256(self, path: str) -> str | None:
        """Return the SHA-256 (hex) of a file's content; None if that would require fetching it."""
        return None


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def one_line(error: Exception) -> str:
    """Return an error's message on one line, for the middle of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


def state_of(status: os.stat_result) -> str:
    """Return a text that changes whenever a file is written: its size and modification time."""
    return f"{status.st_size} {status.st_mtime_ns}"


def read_file(path: Path) -> bytes:
    """Return the content of a regular file of at most MAX_BYTES.

    Raises:
        UnreadableSample: it is larger, of another type, or cannot be read.
    """
    try:
        status = path.stat()
        # Reading a device or a pipe may never end.
        if not S_ISREG(status.st_mode):
            raise UnreadableSample("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableSample(TOO_LARGE)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSample(f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableSample(f"there is no such path: {error}") from error


class LocalTree(Tree):
    """A local folder. Links to folders or out of it, and special files, are refused."""

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.root = root.resolve()
        self.name = name or str(self.root)
        self.refused: list[Refusal] = []
        self._inside: dict[Path, bool] = {}

    def entries(self, folder: str) -> list[Entry]:
        try:
            with os.scandir(self.root / folder) as found:
                return sorted(self._entry(entry) for entry in found)
        except OSError as error:
            where = self.root / folder
            raise InputError(f"{where} cannot be read ({error.strerror}); ask for read permission on it.") from error

    def refusal(self, path: str) -> str | None:
        """Return the reason why a path's file is not read; None if there is none."""
        place = self.root / path
        if not os.path.lexists(place):
            return "there is no such file"
        if not self._is_inside(place.parent):
            return "a symbolic link out of the data folder; put the file itself here"
        entry = self._entry(place)
        return "a folder" if entry.folder else entry.refusal

    def _is_inside(self, folder: Path) -> bool:
        if folder not in self._inside:
            self._inside[folder] = folder.resolve().is_relative_to(self.root)
        return self._inside[folder]

    def read(self, path: str) -> bytes:
        return read_file(self.root / path)

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def sha256(self, path: str) -> str | None:
        place = self.root / path
        if place.is_symlink() or not place.is_file():
            return None
        try:
            return sha256_of(place)
        except OSError:
            return None

    def state(self, path: str) -> str | None:
        try:
            return state_of(os.stat(f"{self.root}/{path}"))
        except (OSError, ValueError):
            return None

    def _entry(self, found: "os.DirEntry[str] | Path") -> Entry:
        if found.is_symlink():
            path = Path(found)
            if not path.exists():
                return Entry(path.name, refusal="a symbolic link to nothing")
            if path.is_dir():
                return Entry(path.name, refusal="a symbolic link to a folder; put the folder itself here")
            if not path.resolve().is_relative_to(self.root):
                return Entry(path.name, refusal="a symbolic link out of the data folder; put the file itself here")
        if found.is_dir():
            return Entry(found.name, folder=True)
        return Entry(found.name, refusal=None if found.is_file() else "not a regular file")


class NamedTree(Tree):
    """A tree whose folders are implied by file names, as in an archive or in S3.

    `files` maps each path to the reason for refusing it, or None. `root` is the folder that paths are relative to;
    subclasses resolve paths by `_at`.
    """

    def __init__(self, name: str, files: Mapping[str, str | None], refused: Iterable[Refusal] = ()) -> None:
        self.name = name
        self.root = ""
        self.refused = list(refused)
        self._folders: dict[str, set[Entry]] = defaultdict(set)
        for path, refusal in files.items():
            folder, _, file = path.rpartition("/")
            self._folders[folder].add(Entry(file, refusal=refusal))
            while folder:
                above, _, own = folder.rpartition("/")
                entry = Entry(own, folder=True)
                if entry in self._folders[above]:
                    break
                self._folders[above].add(entry)
                folder = above

    def entries(self, folder: str) -> list[Entry]:
        return sorted(self._folders.get(self._at(folder), ()))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root and path else self.root or path
