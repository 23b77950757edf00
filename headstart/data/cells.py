"""Cells: samples that stand in a table itself, kept in a file while the data set is prepared."""

import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from headstart.data.limits import MAX_BYTES
from headstart.data.tree import TOO_LARGE
from headstart.modalities import UnreadableSample


class Cells:
    """The content of samples by path. It lies on the disk, for a table may be larger than memory, in a file without a
    name; several threads may read."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the file lies; None: where the system keeps temporary files."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed on leaving the context
        self._places: dict[str, tuple[int, int, str]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, path: str, content: bytes) -> str | None:
        """Keep a sample's content under its path; return the reason why it is refused, None if it is not."""
        if len(content) > MAX_BYTES:
            return TOO_LARGE
        self._file.write(content)
        self._places[path] = self._end, len(content), hashlib.sha256(content).hexdigest()
        self._end += len(content)
        return None

    def read(self, path: str) -> bytes:
        """The content of a sample.

        Raises:
            UnreadableSample: it cannot be read again.
        """
        start, length, _ = self._places[path]
        try:
            # What was added may still be in the writer's buffer.
            self._file.flush()
            return os.pread(self._file.fileno(), length, start)
        except OSError as error:
            raise UnreadableSample(f"the row cannot be read again: {error.strerror}") from error

    def sha256(self, path: str) -> str | None:
        """The SHA-256 (hex) of a sample's content; None for a path that was not added."""
        place = self._places.get(path)
        return place[2] if place else None
