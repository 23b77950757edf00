"""Shards: samples of a listing, read in parallel and stored so that an interrupted preparation resumes.

A shard covers a run of consecutive files: one file with their arrays, another with a record of everything else, written
after the arrays. Both are named by a digest of all inputs, including each file's state in the listing; if the record of
a shard exists, none of its files is read again. Writes are not flushed to disk: the record has a checksum of each
sample's array, and a shard whose arrays were lost in a crash counts as missing.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headstart.data.limits import MIB
from headstart.data.listing import File, Listing, Refusal
from headstart.data.parallel import in_order, processors
from headstart.data.samples import Content, Sample, read_content
from headstart.modalities import Modality
from headstart.modalities.alike import Mark
from headstart.sections import Section

SHARD_FILES = 1024
"""Maximum files of a shard: an interruption costs reading this many again, a matter of seconds."""

SHARD_BYTES = 256 * MIB
"""Approximate maximum bytes of arrays in a shard."""

_FORMAT = 2
"""Increased whenever the record's format or the definition of a sample's mark changes."""

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

    files: Sequence[File]
    arrays: Path
    record: Path | None


def read_samples(listing: Listing, kind: Modality, given: Section, folder: Path) -> tuple[list[Sample], list[Refusal]]:
    """Read the listing's files as the section `given` says, and return the samples, in its order and with their arrays
    in shards in `folder`, and the refused files.

    Shards of earlier runs in `folder` are reused if they fit; everything else in it is deleted. Decoders and digests
    release the GIL, so threads use all processors.
    """
    each = _sample_bytes(kind, given)
    shards = _shards(listing, kind, given, each, folder)
    fitting = {path for shard in shards for path in (shard.arrays, shard.record)}
    for path in folder.iterdir():
        if path not in fitting:
            path.unlink()

    def read(files: Sequence[File]) -> list[tuple[_Row, np.ndarray] | _Refused]:
        return _read(listing, files, kind, given)

    workers = max(processors(), listing.readers or 1)
    samples: list[Sample] = []
    refused: list[Refusal] = []
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda shard: _find(shard, kind), shards))
        missing = [file for shard, rows in zip(shards, found, strict=True) if rows is None for file in shard.files]
        results = in_order(pool, read, _groups(missing, each), ahead=workers + 4)
        contents = (content for group in results for content in group)
        for number, shard in enumerate(shards):
            _take(shard, found[number] or _write(shard, contents), kind, samples, refused)
            found[number] = None
    return samples, refused


def array_of(sample: Sample, kind: Modality, *, last: bool = False) -> np.ndarray:
    """Return the array of a sample, of its shape and the modality's type.

    `last` drops them from the page cache afterwards. Otherwise a large data set is cached twice, as shards and as
    packed files, and evicts everything else.
    """
    handle = os.open(sample.shard, os.O_RDONLY)
    try:
        content = os.pread(handle, _bytes_of(sample.shape, kind), sample.offset)
        # macOS has no posix_fadvise.
        if last and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, sample.offset, len(content), os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return np.frombuffer(content, dtype=kind.dtype).reshape(sample.shape)


def _take(
    shard: _Shard, rows: Sequence[_Row | _Refused], kind: Modality, samples: list[Sample], refused: list[Refusal]
) -> None:
    """Append the samples and refusals recorded in a shard's rows."""
    offset = 0
    for file, row in zip(shard.files, rows, strict=True):
        if isinstance(row, _Refused):
            refused.append(Refusal(file.path, *row))
            continue
        mark = Mark(row.mark[0], bytes.fromhex(row.mark[1])) if row.mark else None
        shape = tuple(row.shape)
        samples.append(Sample(file, row.sha256, shape, row.facts, mark, shard.arrays, offset))
        offset += _bytes_of(shape, kind)


def _bytes_of(shape: Sequence[int], kind: Modality) -> int:
    return math.prod(shape) * np.dtype(kind.dtype).itemsize


def _sample_bytes(kind: Modality, given: Section) -> int:
    """Bytes of a sample, about."""
    return max(1, math.prod(kind.usual_shape(given)) * np.dtype(kind.dtype).itemsize)


def _shards(listing: Listing, kind: Modality, given: Section, each: int, folder: Path) -> list[_Shard]:
    settings = [_FORMAT, kind.decoding, given.model_dump(mode="json"), listing.name]
    most = max(1, min(SHARD_FILES, SHARD_BYTES // each))
    shards = []
    for number, files in enumerate(_runs(listing.files, most)):
        states = [(file.path, listing.state(file.path)) for file in files]
        if any(state is None for _, state in states):
            shards.append(_Shard(files, folder / f"{number}.arrays", None))
        else:
            name = hashlib.sha256(json.dumps([settings, states]).encode()).hexdigest()
            shards.append(_Shard(files, folder / f"{name}.arrays", folder / f"{name}.json"))
    return shards


def _runs(files: Sequence[File], most: int) -> Iterator[Sequence[File]]:
    """Split the files into runs of at most `most`. A run's end depends on a path's hash, not its position, so that
    adding or removing a file changes one or two runs, not all that follow."""
    start = 0
    for number, file in enumerate(files, start=1):
        if number == len(files) or number - start == most or zlib.crc32(file.path.encode()) % most == 0:
            yield files[start:number]
            start = number


def _groups(files: Sequence[File], each: int) -> Iterator[Sequence[File]]:
    count = max(1, min(GROUP_FILES, GROUP_BYTES // each))
    for start in range(0, len(files), count):
        yield files[start : start + count]


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


def _find(shard: _Shard, kind: Modality) -> list[_Row | _Refused] | None:
    """Return the rows that an earlier run recorded of the shard; None unless the record and all arrays are intact."""
    if shard.record is None:
        return None
    try:
        rows = [_Refused(*row) if len(row) == 2 else _Row(*row) for row in json.loads(shard.record.read_bytes())]
        with shard.arrays.open("rb") as file:
            for row in rows:
                if isinstance(row, _Row) and zlib.crc32(file.read(_bytes_of(row.shape, kind))) != row.checksum:
                    return None
    except (OSError, ValueError):
        return None
    return rows
