"""The rows of a table that names samples: CSV in UTF-8, or Parquet; only some of them are in memory at a time."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from headstart.data.tree import one_line
from headstart.errors import InputError

SUFFIXES = (".csv", ".parquet")

_ROWS = 256


def is_table(name: str) -> bool:
    """Whether a file's name says that it is a table."""
    return Path(name).suffix.lower() in SUFFIXES


def columns_of(name: str, file: BinaryIO) -> list[str]:
    """The names of the columns. InputError if the table cannot be read."""
    if _is_csv(name):
        with _csv(name, file) as reader:
            return list(reader.fieldnames or ())
    with _parquet(name, file) as table:
        return list(table.schema_arrow.names)


def rows_of(name: str, file: BinaryIO, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows, with those of `columns` that the table has. InputError if the table cannot be read."""
    if _is_csv(name):
        with _csv(name, file) as reader:
            kept = [column for column in columns if column in (reader.fieldnames or ())]
            yield from ({column: row[column] for column in kept} for row in reader)
        return
    with _parquet(name, file) as table:
        kept = [column for column in columns if column in table.schema_arrow.names]
        for batch in table.iter_batches(_ROWS, columns=kept):
            yield from batch.to_pylist()


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


@contextmanager
def _csv(name: str, file: BinaryIO) -> Iterator["csv.DictReader[str]"]:
    file.seek(0)
    # utf-8-sig: what spreadsheets save begins with a byte order mark.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield csv.DictReader(text)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} cannot be read as CSV in UTF-8 ({one_line(error)}); save it anew.") from error
    finally:
        # The file is its owner's to close, who may have done so.
        with suppress(ValueError):
            text.detach()


@contextmanager
def _parquet(name: str, file: BinaryIO) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read as Parquet ({one_line(error)}); write it anew.") from error
