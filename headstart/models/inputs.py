"""Inputs of predictions: files, folders, tables and S3 objects as a stream of raw samples."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from headstart.data.fasta import is_fasta, records_of
from headstart.data.limits import MAX_BYTES
from headstart.data.table import columns_of, is_table, rows_of
from headstart.data.tree import TOO_LARGE, read_file
from headstart.errors import InputError
from headstart.modalities import Modality, UnreadableSample, modality
from headstart.storage import s3


@dataclass(frozen=True)
class RawSample:
    """A sample that is read on demand. `read` returns a file's content, or raises UnreadableSample.

    `name` is always valid text: undecodable bytes of a file's name are written as \\xff.
    """

    name: str
    read: Callable[[], bytes]


def raw_samples(references: Sequence[str], modality_name: str) -> Iterator[RawSample]:
    """Return an iterator over the samples that paths and `s3://` URIs name, in the given order; only names are held in
    memory.

    A folder or S3 prefix is walked by name; files with other extensions than samples are skipped. A sub-folder that
    cannot be read, or is a link, is yielded as an unreadable sample. A `.csv` or `.parquet` file is a table of samples:
    its column `path` has paths relative to the table or `s3://` URIs, or its column
    called as the modality is (`image`), in Parquet, the content of files; of a modality whose samples are text, in
    either, the texts. A file of FASTA is a table of sequences where samples are such.

    Raises:
        InputError: an input does not exist, a table has no such column, S3 cannot be read, or there is no sample. It is
            raised before the first sample is read.
    """
    kind = modality(modality_name)
    streams: list[Iterable[RawSample]] = []
    for reference in references:
        samples = iter(_samples(reference, kind))
        # Each stream is started here, so that an error in the last input is raised before work on the first starts.
        if (first := next(samples, None)) is not None:
            streams += [[first], samples]
    if not streams:
        raise InputError(f"There is no {modality_name} file in {', '.join(references)}.")
    return chain.from_iterable(streams)


def samples_of(data: object, kind: Modality) -> Iterator[RawSample]:
    """Return an iterator over the samples in what a Python caller holds.

    `data` is a path or `s3://` address (see `raw_samples`), a file's content, an object that the modality knows, such
    as a PIL image, a DataFrame with a column `path` or one called as the modality is, or an iterable of any of these.
    Where samples are text, a str in an iterable or in such a column is one, and a Path there a file. Samples in memory
    are named #1, #2, … by their place.

    Raises:
        InputError: `data` is none of these, or does not exist; for an iterable, when the sample is reached.
    """
    import pandas as pd

    if isinstance(data, str | os.PathLike):
        return raw_samples([os.fspath(data)], kind.name)
    paths = os.PathLike if kind.is_text else str | os.PathLike
    if isinstance(data, list | tuple) and data and all(isinstance(each, paths) for each in data):
        return raw_samples([os.fspath(each) for each in data], kind.name)
    if isinstance(data, pd.DataFrame):
        column = next((name for name in (kind.name, "path") if name in data.columns), None)
        if column is None:
            raise InputError(
                f"The DataFrame has no column {kind.name} or path; name the column with the {kind.noun}s so."
            )
        return _in_memory(list(data[column]), kind, texts=column == kind.name)
    return _in_memory(_cells(data, kind), kind)


def _cells(data: object, kind: Modality) -> Iterable[object]:
    """The single objects that `data` holds."""
    if isinstance(data, bytes | bytearray | memoryview) or kind.as_files(data) is not None:
        return [data]
    if isinstance(data, Iterable) and not isinstance(data, Mapping):
        return data
    raise InputError(_unknown(data, kind))


def _in_memory(cells: Iterable[object], kind: Modality, *, texts: bool = True) -> Iterator[RawSample]:
    """Yield the samples of cells; `texts` says whether a str may be a sample itself, or is always a path."""
    number = 0
    for cell in cells:
        content = kind.from_text(cell) if texts and isinstance(cell, str) else None
        if content is None and isinstance(cell, str | os.PathLike):
            yield _sample(os.fspath(cell))
            number += 1
            continue
        if content is not None:
            files: Iterator[bytes] | None = iter([content])
        elif isinstance(cell, bytes | bytearray | memoryview):
            files = iter([bytes(cell)])
        else:
            files = kind.as_files(cell)
        if files is None:
            raise InputError(_unknown(cell, kind))
        for file in files:
            number += 1
            yield RawSample(f"#{number}", partial(bytes, file))


def _unknown(value: object, kind: Modality) -> str:
    return (
        f"{type(value).__name__} is no {kind.noun} that can be read; give a path, a file's content as bytes, or a "
        "DataFrame or list of those."
    )


def _samples(reference: str, kind: Modality) -> Iterable[RawSample]:
    if s3.is_s3(reference):
        return _objects(reference, kind)
    path = Path(reference)
    if path.is_dir():
        return _folder(path, kind)
    if not path.exists():
        raise InputError(f"{path} does not exist; give files, folders of them, or tables that list them.")
    return _file(reference, kind)


def _file(name: str, kind: Modality) -> Iterable[RawSample]:
    if is_table(name):
        return _table(name, kind)
    return _records(name) if is_fasta(name) and kind.letters_read(None) is not None else [_sample(name)]


def _records(name: str) -> Iterator[RawSample]:
    with _opened(name) as file:
        for number, record in enumerate(records_of(name, file), start=1):
            yield RawSample(f"{name}#{record.name or number}", partial(_content, record.content))


def _content(content: bytes | None) -> bytes:
    if content is None:
        raise UnreadableSample(TOO_LARGE)
    return content


def _folder(path: Path, kind: Modality) -> list[RawSample]:
    found: dict[Path, str | None] = {}

    def refuse(error: OSError) -> None:
        found[Path(error.filename)] = f"the folder cannot be read: {error.strerror}"

    for place, folders, files in os.walk(path, onerror=refuse):
        for name in folders:
            if (Path(place) / name).is_symlink():
                found[Path(place) / name] = "a symbolic link to a folder; name the folder itself"
        found |= {Path(place) / name: None for name in files if _suffix(name) in kind.extensions}
    return [_sample(str(name), refusal=found[name]) for name in sorted(found)]


def _objects(uri: str, kind: Modality) -> Iterator[RawSample]:
    for found in s3.list_objects(uri):
        if found.uri == uri:
            yield from _file(uri, kind)
        elif _suffix(found.uri) in kind.extensions:
            yield _sample(found.uri)


def _sample(name: str, *, refusal: str | None = None) -> RawSample:
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return RawSample(text, partial(_read, name, refusal))


def _read(name: str, refusal: str | None) -> bytes:
    if refusal:
        raise UnreadableSample(refusal)
    if not s3.is_s3(name):
        return read_file(Path(name))
    try:
        return s3.read_object(name, limit=MAX_BYTES)
    except s3.UnreadableObject as error:
        raise UnreadableSample(str(error)) from error


def _table(name: str, kind: Modality) -> Iterator[RawSample]:
    base, slash, _ = name.rpartition("/")
    with _opened(name) as file:
        for number, row in enumerate(_rows(name, file, kind), start=1):
            path, content = str(row.get("path") or ""), row.get(kind.name)
            if content is not None or not path:
                yield RawSample(path or f"{name}#{number}", partial(_as_bytes, content, kind))
            else:
                yield _sample(path if s3.is_s3(path) or path.startswith("/") else base + slash + path)


def _rows(name: str, file: BinaryIO, kind: Modality) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table; for CSV, which has no bytes, only their paths, and texts where samples are text."""
    wanted = ("path",) if _suffix(name) == ".csv" and not kind.is_text else ("path", kind.name)
    if not set(wanted) & set(columns_of(name, file)):
        hold = "paths" if len(wanted) == 1 else "paths or contents"
        raise InputError(
            f"{name} has no column {' or '.join(wanted)}; name the column with the {hold} of the {kind.noun}s so."
        )
    return rows_of(name, file, wanted)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    try:
        opened = s3.open_object(name) if s3.is_s3(name) else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from error
    with opened as file:
        yield file


def _as_bytes(content: Any, kind: Modality) -> bytes:
    if isinstance(content, str) and (given := kind.from_text(content)) is not None:
        return given
    if not isinstance(content, bytes):
        raise UnreadableSample(f"the row has no path and no {'text' if kind.is_text else f'bytes of a {kind.noun}'}")
    return content


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
