"""What a model is asked about: files, folders, tables and objects in S3, as a stream of raw samples."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from headstart.data.samples import MAX_BYTES
from headstart.errors import InputError
from headstart.modalities import Modality, UnreadableSample, modality
from headstart.storage import s3

_TABLES = (".csv", ".parquet")
_ROWS = 256


@dataclass(frozen=True)
class RawSample:
    """A sample that is read when it is needed. `read` gives a file's content, or raises UnreadableSample."""

    name: str
    read: Callable[[], bytes]


def raw_samples(references: Sequence[str], modality_name: str) -> Iterator[RawSample]:
    """The samples that paths and `s3://` URIs name, in the order given; nothing but names is held in memory.

    A folder, or a prefix in S3, is walked by name, and files whose names do not say that they hold a sample are passed
    over. A `.csv` or `.parquet` file is a table of samples: its column `path` has paths relative to the table or
    `s3://` URIs, or its column `image`, in Parquet, the content of files.

    Raises:
        InputError: something does not exist, a table has no such column, S3 cannot be read, or there is no sample.
    """
    kind = modality(modality_name)
    streams: list[Iterable[RawSample]] = []
    for reference in references:
        samples = iter(_samples(reference, kind))
        # Each is begun here, so that what is wrong with the last is said before work on the first starts.
        if (first := next(samples, None)) is not None:
            streams += [[first], samples]
    if not streams:
        raise InputError(f"There is no {modality_name} file in {', '.join(references)}.")
    return chain.from_iterable(streams)


def _samples(reference: str, kind: Modality) -> Iterable[RawSample]:
    if s3.is_s3(reference):
        return _objects(reference, kind)
    path = Path(reference)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in kind.extensions and p.is_file())
        return (_sample(str(file)) for file in files)
    if not path.exists():
        raise InputError(f"{path} does not exist; give image files, folders of them, or tables that list them.")
    return _table(reference) if path.suffix.lower() in _TABLES else [_sample(reference)]


def _objects(uri: str, kind: Modality) -> Iterator[RawSample]:
    for name in s3.list_objects(uri):
        if name == uri:
            yield from _table(uri) if _suffix(uri) in _TABLES else [_sample(uri)]
        elif _suffix(name) in kind.extensions:
            yield _sample(name)


def _sample(name: str) -> RawSample:
    return RawSample(name, partial(_read, name))


def _read(name: str) -> bytes:
    try:
        if s3.is_s3(name):
            return s3.read_object(name, limit=MAX_BYTES)
        status = Path(name).stat()
        # A device or a pipe may have no end.
        if not S_ISREG(status.st_mode):
            raise UnreadableSample("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableSample(f"the file has more than {MAX_BYTES // 2**20} MiB")
        return Path(name).read_bytes()
    except s3.UnreadableObject as error:
        raise UnreadableSample(str(error)) from error
    except OSError as error:
        raise UnreadableSample(f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableSample(f"there is no such path: {error}") from error


def _table(name: str) -> Iterator[RawSample]:
    base, slash, _ = name.rpartition("/")
    with _opened(name) as file:
        for number, row in enumerate(_rows(name, file), start=1):
            path, content = str(row.get("path") or ""), row.get("image")
            if content is not None or not path:
                yield RawSample(path or f"{name}#{number}", partial(_as_bytes, content))
            else:
                yield _sample(path if s3.is_s3(path) or path.startswith("/") else base + slash + path)


def _rows(name: str, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows of a table, of which only some are in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if _suffix(name) == ".csv":
        # utf-8-sig: what spreadsheets save begins with a byte order mark.
        reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        try:
            if "path" not in (reader.fieldnames or ()):
                raise InputError(f"{name} has no column path; name the column with the images' paths so.")
            yield from ({"path": row["path"]} for row in reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{name} cannot be read as CSV in UTF-8 ({error}); save it anew.") from error
        return
    try:
        table = pq.ParquetFile(file)
        columns = [column for column in ("path", "image") if column in table.schema_arrow.names]
        if not columns:
            raise InputError(f"{name} has no column path or image; name the column with paths or contents so.")
        for batch in table.iter_batches(_ROWS, columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read as Parquet ({error}); write it anew.") from error


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    try:
        opened = s3.open_object(name) if s3.is_s3(name) else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from error
    with opened as file:
        yield file


def _as_bytes(content: Any) -> bytes:
    if not isinstance(content, bytes):
        raise UnreadableSample("the row has no path and no bytes of an image")
    return content


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
