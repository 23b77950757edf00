"""FASTA: records of letters under a header each, plain or as .gz, read in bounded memory.

    >id label=coding group=gene-17 split=train
    ACGTACGTTTGA…

The header's words `label`, `group` and `split` say what a table's columns of these names do; a value with spaces stands
in quotation marks. All else in it is a name.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from headstart.data.limits import MAX_BYTES, allowed
from headstart.data.tree import one_line
from headstart.errors import InputError

_PLAIN = (".fasta", ".fa", ".fna", ".ffn", ".faa")
SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))

_CHUNK = 2**16
_LONGEST_HEADER = 2**14
_LONGEST_NAME = 80
_WORD = re.compile(r'\b(label|group|split)=(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class Record:
    """A record: its name, the words of its header, and its lines of letters as they are; None if they are more than
    MAX_BYTES."""

    name: str
    words: dict[str, str]
    content: bytes | None


def is_fasta(name: str) -> bool:
    """Return whether a file is one of FASTA by its name."""
    return name.lower().endswith(SUFFIXES)


def records_of(name: str, file: BinaryIO) -> Iterator[Record]:
    """Yield the records of a file.

    Raises:
        InputError: it does not begin with a header, has none that is UTF-8, is no .gz, or expands like a bomb.
    """
    with _unpacked(name, file) as lines:
        header: bytes | None = None
        content, size, begins = bytearray(), 0, True
        while piece := lines.readline(_CHUNK):
            if begins and piece.startswith(b">"):
                if header is not None:
                    yield _record(name, header, bytes(content) if size <= MAX_BYTES else None)
                header, content, size = piece, bytearray(), 0
                while not piece.endswith(b"\n") and (piece := lines.readline(_CHUNK)):
                    header = (header + piece)[:_LONGEST_HEADER]
            elif header is not None:
                size += len(piece)
                if size <= MAX_BYTES:
                    content += piece
            elif piece.strip():
                raise InputError(f"{name} does not begin with > and a header, as FASTA does; correct it.")
            begins = piece.endswith(b"\n")
        if header is not None:
            yield _record(name, header, bytes(content) if size <= MAX_BYTES else None)


def has_labels(name: str, file: BinaryIO) -> bool:
    """Return whether a record's header has a label."""
    return any("label" in record.words for record in records_of(name, file))


def _record(name: str, header: bytes, content: bytes | None) -> Record:
    try:
        text = header[1:].decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name} has a header that is not UTF-8 ({one_line(error)}); save it anew.") from error
    words = {key: (quoted or plain).strip() for key, quoted, plain in _WORD.findall(text)}
    first = "".join(letter for letter in text.partition(" ")[0] if letter.isprintable())
    return Record(first[:_LONGEST_NAME], {key: value for key, value in words.items() if value}, content)


@contextmanager
def _unpacked(name: str, file: BinaryIO) -> Iterator[IO[bytes]]:
    packed = file.seek(0, 2)
    file.seek(0)
    if not name.lower().endswith(".gz"):
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(IO[bytes], _Bounded(unpacked, allowed(packed), name))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} cannot be read as .gz ({one_line(error)}); fetch it again.") from error


class _Bounded:
    """The lines of a file of which no more than `limit` bytes are read."""

    def __init__(self, file: gzip.GzipFile, limit: int, name: str) -> None:
        self._file, self._left, self._name = file, limit, name

    def readline(self, size: int) -> bytes:
        piece = self._file.readline(size)
        self._left -= len(piece)
        if self._left < 0:
            raise InputError(f"{self._name} expands to far more than it holds, as a bomb does; save it anew.")
        return piece
