"""Tables of samples: rows of CSV in UTF-8 or of Parquet, read in bounded memory."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from headstart.data.limits import MAX_BYTES
from headstart.data.tree import one_line
from headstart.errors import InputError

SUFFIXES = (".csv", ".parquet")

_ROWS = 256


def is_table(name: str) -> bool:
    """Return whether a file is a table by its name."""
    return Path(name).suffix.lower() in SUFFIXES


def columns_of(name: str, file: BinaryIO) -> list[str]:
    """Return the names of the columns.

    Raises:
        InputError: the table cannot be read.
    """
    with _opened(name, file) as (columns, _):
        return columns


def rows_of(name: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows, with those of `columns` that the table has.

    Raises:
        InputError: the table cannot be read.
    """
    with _opened(name, file) as (present, rows):
        yield from rows([column for column in columns if column in present])


_Table = tuple[list[str], Callable[[Sequence[str]], Iterator[dict[str, Any]]]]
"""The names of the columns, and a function that yields rows with some of them"""


def _opened(name: str, file: BinaryIO) -> AbstractContextManager[_Table]:
    return _csv(name, file) if name.lower().endswith(".csv") else _parquet(name, file)


@contextmanager
def _csv(name: str, file: BinaryIO) -> Iterator[_Table]:
    file.seek(0)
    # Cells may hold whole texts; Python's own limit is 128 KiB.
    csv.field_size_limit(MAX_BYTES)
    # utf-8-sig: files saved by spreadsheets begin with a byte order mark.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text)
        yield list(reader.fieldnames or ()), lambda kept: ({column: row[column] for column in kept} for row in reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} cannot be read as CSV in UTF-8 ({one_line(error)}); save it anew.") from error
    finally:
        # The caller owns the file and may have closed it.
        with suppress(ValueError):
            text.detach()


@contextmanager
def _parquet(name: str, file: BinaryIO) -> Iterator[_Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        yield (
            list(table.schema_arrow.names),
            lambda kept: (row for batch in table.iter_batches(_ROWS, columns=kept) for row in batch.to_pylist()),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read as Parquet ({one_line(error)}); write it anew.") from error
