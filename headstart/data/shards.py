"""Shards: samples of a listing, read in parallel and stored so that an interrupted preparation resumes.

A shard covers a run of consecutive files: one file with their arrays, another with a record of everything else, written
after the arrays. Both are named by a digest of all inputs, including each file's state in the listing; if the record of
a shard exists, none of its files is read again. Writes are not flushed to disk: the record has a checksum of each
sample's array, and a shard whose arrays were lost in a crash counts as missing.
"""

import hashlib
import json
import math
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from headstart.data.columns import Coded, Codes
from headstart.data.limits import MIB
from headstart.data.listing import File, Files, Listing, Refusal
from headstart.data.parallel import in_order, processors
from headstart.data.samples import Content, Marks, Readable, Sample, numbers_of_contents, read_content
from headstart.data.shelf import FOLDER, Arrays, Shelf, keep
from headstart.errors import HeadstartError
from headstart.modalities import Modality
from headstart.modalities.alike import Mark
from headstart.sections import Section
from headstart.storage.state import State

SHARD_FILES = 1024
"""Maximum files of a shard: an interruption costs reading this many again, a matter of seconds."""

SHARD_BYTES = 256 * MIB
"""Approximate maximum bytes of arrays in a shard."""

_FORMAT = 2
"""Increased whenever the record's format or the definition of a sample's mark changes."""

# Samples with less between them are read at once, up to so many bytes.
_GAP, _READ_BYTES = 64 * 1024, 4 * MIB

# A thread returns this much at a time: enough to make small pictures worth a task, and little memory.
GROUP_FILES, GROUP_BYTES = 32, 2 * MIB


class _Row(NamedTuple):
    """A shard's record of a sample; `mark` is its hash and coarse form, in hexadecimal digits."""

    sha256: str
    shape: tuple[int, ...]
    facts: Mapping[str, Any]
    mark: tuple[int, str] | None
    checksum: int

    @classmethod
    def of(cls, content: Content, mark: Mark | None) -> "_Row":
        shown = (mark.hash, mark.coarse.hex()) if mark else None
        return cls(content.sha256, content.values.shape, content.facts, shown, zlib.crc32(content.values.data))


class _Refused(NamedTuple):
    """A shard's record of a refused file."""

    reason: str
    sha256: str | None


@dataclass(frozen=True)
class _Shard:
    """A run of files and the paths of their shard; `record` is None if the state of one of them is unknown."""

    files: Files
    arrays: Path
    record: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The arrays and, where there is one, the record, which is written after them."""
        return (self.arrays,) if self.record is None else (self.arrays, self.record)


def read_samples(
    listing: Listing,
    kind: Modality,
    given: Section,
    folder: Path,
    *,
    kept: State | None = None,
    most: int | None = None,
) -> tuple[Readable, list[Refusal], Shelf]:
    """Read the listing's files as the section `given` says, and return the samples, in its order, the refused files,
    and the shelf with the arrays of the samples in shards in `folder`.

    Shards of earlier runs in `folder`, and those that `read_part` left in the state `kept`, are reused if they fit;
    everything else in `folder` is deleted. It holds at most `most` bytes of arrays or so, and the state the others; any
    number where it is None. Decoders and digests release the GIL, so threads use all processors.
    """
    each = _sample_bytes(kind, given)
    shards = _shards(listing, kind, given, each, folder)
    fitting = {path for shard in shards for path in shard.paths}
    for path in folder.iterdir():
        if path not in fitting:
            path.unlink()
    at = {shard.arrays: shard for shard in shards}

    def anew(path: Path) -> None:
        shard = at[path]
        assert shard.record is not None  # noqa: S101 (the state has no others)
        known = shard.record.read_bytes()
        with _reading(listing, kind, given, each) as (_, read):
            _write(shard, read(shard.files))
            if shard.record.read_bytes() != known:
                raise HeadstartError(f"Files of {listing.name} change while they are being prepared; run again.")

    shelf = Shelf(kept, most, anew)

    def find(shard: _Shard) -> list[_Row | _Refused] | None:
        known = _recorded(shard, kind)
        if known is None and shard.record is not None and shelf.fetch(shard.record):
            known = _recorded(shard, kind)
        return known[0] if known is not None and shelf.take(shard.arrays, known[1]) else None

    columns = _Columns(kind)
    with _reading(listing, kind, given, each) as (pool, read):
        found = [
            None if rows is None else columns.of(shard, rows)
            for shard, rows in zip(shards, in_order(pool, find, shards, ahead=2 * processors()), strict=True)
        ]
        contents = read(
            file for shard, taken in zip(shards, found, strict=True) if taken is None for file in shard.files
        )

        def read_now(shard: _Shard) -> _Taken:
            rows = _write(shard, contents)
            shelf.leave(shard.arrays, shard.record, _arrays(rows, kind))
            return columns.of(shard, rows)

        taken = [there or read_now(shard) for shard, there in zip(shards, found, strict=True)]
    return columns.joined(listing, shards, taken), [refusal for part in taken for refusal in part.refused], shelf


def read_part(
    listing: Listing, kind: Modality, given: Section, folder: Path, *, kept: State, part: int, parts: int
) -> tuple[int, int]:
    """Read the shards of the listing that are the part number `part` of `parts`, about as many files in each, and leave
    them in the state `kept`; return the number of files in these shards, and of those that were read now.

    A shard that the state has is not read again, so that a part which was killed goes on where it was. Shards whose
    files have no known state, as nobody could find them again, are left for whoever joins the parts. Shards that nobody
    wrote or wrote anew for 14 days are deleted.
    """
    kept.forget(f"{FOLDER}/")
    each = _sample_bytes(kind, given)
    named = [shard for shard in _shards(listing, kind, given, each, folder) if shard.record is not None]
    ends = np.cumsum([len(shard.files) for shard in named])
    mine = [shard for shard, end in zip(named, ends, strict=True) if (end - 1) * parts // ends[-1] == part]
    there = set(kept.names(f"{FOLDER}/"))
    missing = [shard for shard in mine if not all(f"{FOLDER}/{path.name}" in there for path in shard.paths)]
    with _reading(listing, kind, given, each) as (_, read):
        contents = read(file for shard in missing for file in shard.files)
        for shard in missing:
            _write(shard, contents)
            assert shard.record is not None  # noqa: S101 (those alone are named)
            keep(kept, shard.arrays, shard.record)
            for path in shard.paths:
                path.unlink()
    return sum(len(shard.files) for shard in mine), sum(len(shard.files) for shard in missing)


def array_of(sample: Sample, kind: Modality, shelf: Shelf) -> np.ndarray:
    """Return the array of a sample, of its shape and the modality's type."""
    content = shelf.content(sample.shard, sample.offset, _bytes_of(sample.shape, kind))
    return np.frombuffer(content, dtype=kind.dtype).reshape(sample.shape)


def arrays_of(samples: Readable, rows: np.ndarray, kind: Modality) -> Iterator[np.ndarray]:
    """Yield the array of each sample at rising positions, int (n,), for the last time: they leave the page cache.

    Otherwise a large data set is cached twice, as shards and as packed files, and evicts everything else.
    """
    sizes = np.array([_bytes_of(shape, kind) for shape in samples.shapes.values], dtype=np.int64)
    shards, shapes, starts = samples.shards.take(rows), samples.shapes.take(rows), samples.offsets[rows]
    ends = starts + sizes[shapes.codes]
    # Samples that lie close to each other are read at once.
    far = (np.diff(shards.codes) != 0) | (starts[1:] - ends[:-1] > _GAP)
    first = 0
    for stop in [*(np.flatnonzero(far) + 1).tolist(), len(rows)]:
        while first < stop:
            end = int(np.searchsorted(ends[first:stop], starts[first] + _READ_BYTES, side="right"))
            last = first + max(1, end)
            start = int(starts[first])
            content = _read_last(shards[first], start, int(ends[last - 1]))
            places = (starts[first:last] - start).tolist()
            for place, shape in zip(places, shapes[first:last], strict=True):
                yield np.frombuffer(content, kind.dtype, math.prod(shape), place).reshape(shape)
            first = last


def _read_last(path: Path, start: int, end: int) -> bytes:
    """Read some bytes of a file, which leave the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        content = os.pread(handle, end - start, start)
        # macOS has no posix_fadvise, and a part of a page is not dropped.
        if end - start >= mmap.PAGESIZE and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, start, end - start, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return content


class _Taken(NamedTuple):
    """The samples of a shard as columns: which of its files they are, bool (n,), then as `Readable` has them, with the
    numbers of their shapes and facts; and the refused files."""

    read: np.ndarray
    digests: np.ndarray
    shapes: np.ndarray
    facts: np.ndarray
    hashes: np.ndarray
    coarse: pa.Array
    offsets: np.ndarray
    refused: list[Refusal]


class _Columns:
    """The samples of shards as columns."""

    def __init__(self, kind: Modality) -> None:
        self._kind = kind
        self._shapes: Codes[tuple[int, ...]] = Codes()
        self._facts: Codes[Mapping[str, Any]] = Codes()

    def of(self, shard: _Shard, rows: Sequence[_Row | _Refused]) -> _Taken:
        """The samples and refusals that are recorded in a shard's rows."""
        is_read = [isinstance(row, _Row) for row in rows]
        refused = []
        if not all(is_read):
            each = zip(shard.files, rows, strict=True)
            refused = [Refusal(file.path, *row) for file, row in each if isinstance(row, _Refused)]
        read = [row for row in rows if isinstance(row, _Row)]
        digests, given, facts, marks, _ = zip(*read, strict=True) if read else ((),) * 5
        shapes = [tuple(shape) for shape in given]
        bytes_of = {shape: _bytes_of(shape, self._kind) for shape in set(shapes)}
        sizes = np.array([bytes_of[shape] for shape in shapes], dtype=np.int64)
        # Half as long as JSON takes.
        facts_of = [self._facts.number(each, key) for each, key in zip(facts, map(repr, facts), strict=True)]
        coarse = [bytes.fromhex(mark[1]) if mark else None for mark in marks]
        return _Taken(
            np.array(is_read, dtype=bool),
            np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32),
            np.array([self._shapes.number(shape, shape) for shape in shapes], dtype=np.int32),
            np.array(facts_of, dtype=np.int32),
            np.array([mark[0] if mark else 0 for mark in marks], dtype=np.uint64),
            pa.array(coarse, pa.large_binary()),
            np.cumsum(sizes) - sizes,
            refused,
        )

    def joined(self, listing: Listing, shards: Sequence[_Shard], taken: Sequence[_Taken]) -> Readable:
        """All samples of the shards of a listing."""

        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in taken])

        digests, read = column("digests"), column("read")
        number_of_shard = np.repeat(np.arange(len(taken), dtype=np.int32), [len(part.digests) for part in taken])
        return Readable(
            listing.columns if read.all() else listing.columns.take(np.flatnonzero(read)),
            digests,
            numbers_of_contents(digests),
            self._shapes.coded(column("shapes")),
            self._facts.coded(column("facts")),
            Marks(column("hashes"), pa.concat_arrays([part.coarse for part in taken])),
            Coded([shard.arrays for shard in shards], number_of_shard),
            column("offsets"),
        )


@contextmanager
def _reading(
    listing: Listing, kind: Modality, given: Section, each: int
) -> Iterator[tuple[ThreadPoolExecutor, Callable[[Iterable[File]], Iterator[tuple[_Row, np.ndarray] | _Refused]]]]:
    """Threads, and the function that reads files with them: it yields their contents in order."""
    workers = max(processors(), listing.readers or 1)

    def read(files: Iterable[File]) -> Iterator[tuple[_Row, np.ndarray] | _Refused]:
        groups = in_order(
            pool, lambda group: _read(listing, group, kind, given), _groups(files, each), ahead=workers + 4
        )
        return (content for group in groups for content in group)

    with ThreadPoolExecutor(workers) as pool:
        yield pool, read


def _bytes_of(shape: Sequence[int], kind: Modality) -> int:
    return math.prod(shape) * np.dtype(kind.dtype).itemsize


def _sample_bytes(kind: Modality, given: Section) -> int:
    """Bytes of a sample, about."""
    return max(1, math.prod(kind.usual_shape(given)) * np.dtype(kind.dtype).itemsize)


def _shards(listing: Listing, kind: Modality, given: Section, each: int, folder: Path) -> list[_Shard]:
    settings = [_FORMAT, kind.decoding, given.model_dump(mode="json"), listing.name]
    most = max(1, min(SHARD_FILES, SHARD_BYTES // each))
    shards = []
    for number, files in enumerate(_runs(listing.columns, most)):
        states = [(path, listing.state(path)) for path in files.paths]
        if any(state is None for _, state in states):
            shards.append(_Shard(files, folder / f"{number}.arrays", None))
        else:
            name = hashlib.sha256(json.dumps([settings, states]).encode()).hexdigest()
            shards.append(_Shard(files, folder / f"{name}.arrays", folder / f"{name}.json"))
    return shards


def _runs(files: Files, most: int) -> Iterator[Files]:
    """Split the files into runs of at most `most`. A run's end depends on a path's hash, not its position, so that
    adding or removing a file changes one or two runs, not all that follow."""
    start = 0
    for number, path in enumerate(files.paths, start=1):
        if number == len(files) or number - start == most or zlib.crc32(path.encode()) % most == 0:
            yield files[start:number]
            start = number


def _groups(files: Iterable[File], each: int) -> Iterator[Sequence[File]]:
    count = max(1, min(GROUP_FILES, GROUP_BYTES // each))
    files = iter(files)
    while group := list(islice(files, count)):
        yield group


def _read(
    listing: Listing, files: Sequence[File], kind: Modality, given: Section
) -> list[tuple[_Row, np.ndarray] | _Refused]:
    contents = [read_content(listing, file, kind, given) for file in files]
    arrays = [content.values for content in contents if isinstance(content, Content)]
    marks = iter(kind.alike.marks(arrays) if kind.alike else [None] * len(arrays))
    return [
        _Refused(content.reason, content.sha256)
        if isinstance(content, Refusal)
        else (_Row.of(content, next(marks)), content.values)
        for content in contents
    ]


def _write(shard: _Shard, contents: Iterator[tuple[_Row, np.ndarray] | _Refused]) -> list[_Row | _Refused]:
    """Write one shard from the next contents, as many as it has files."""
    rows: list[_Row | _Refused] = []
    # What is there may be the state's own file.
    shard.arrays.unlink(missing_ok=True)
    with shard.arrays.open("wb") as file:
        for content in islice(contents, len(shard.files)):
            if isinstance(content, _Refused):
                rows.append(content)
            else:
                row, values = content
                file.write(values.data)
                rows.append(row)
    if shard.record is not None:
        draft = shard.record.with_suffix(".draft")
        draft.write_text(json.dumps(rows))
        os.replace(draft, shard.record)
    return rows


def _recorded(shard: _Shard, kind: Modality) -> tuple[list[_Row | _Refused], Arrays] | None:
    """Return the rows that an earlier run recorded of the shard, and what they say of its arrays; None without an
    intact record."""
    if shard.record is None:
        return None
    try:
        rows = [_Refused(*row) if len(row) == 2 else _Row(*row) for row in json.loads(shard.record.read_bytes())]
        return (rows, _arrays(rows, kind)) if len(rows) == len(shard.files) else None
    except (OSError, ValueError, TypeError, OverflowError):
        return None


def _arrays(rows: Sequence[_Row | _Refused], kind: Modality) -> Arrays:
    read = [row for row in rows if isinstance(row, _Row)]
    sizes = [_bytes_of(row.shape, kind) for row in read]
    return Arrays(
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        np.array([row.checksum for row in read], dtype=np.uint32),
    )
