"""The files of a listing, each read once: hashed and decoded, or refused with the reason."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
import pyarrow as pa

from headstart.data.columns import ROWS, Coded
from headstart.data.listing import File, Files, Listing, Refusal
from headstart.modalities import Modality, UnreadableSample
from headstart.modalities.alike import Mark
from headstart.sections import Section


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a readable file: the SHA-256 of its bytes, the stored array, and what the modality tells of it."""

    sha256: str
    values: np.ndarray
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """A readable file. Its array, of `shape`, is at `offset` in the file `shard`; `content` is a number that is lower
    than another's where its digest is."""

    file: File
    sha256: str
    content: int
    shape: tuple[int, ...]
    shard: Path
    offset: int


@dataclass(frozen=True)
class Marks(Sequence[Mark]):
    """Fingerprints as columns: hashes uint64 (N,), and coarse forms as binary (N,), null where a sample has none."""

    hashes: np.ndarray
    coarse: pa.Array

    @property
    def is_there(self) -> np.ndarray:
        """Whether each sample has a fingerprint, bool (N,)."""
        return np.asarray(self.coarse.is_valid().to_numpy(zero_copy_only=False), dtype=bool)

    def __len__(self) -> int:
        return len(self.hashes)

    @overload
    def __getitem__(self, rows: int) -> Mark: ...
    @overload
    def __getitem__(self, rows: slice) -> "Marks": ...
    def __getitem__(self, rows: int | slice) -> "Mark | Marks":
        if isinstance(rows, slice):
            return Marks(self.hashes[rows], self.coarse[rows])
        return Mark(int(self.hashes[rows]), self.coarse[int(rows)].as_py())

    def __iter__(self) -> Iterator[Mark]:
        for start in range(0, len(self), ROWS):
            yield from map(Mark, self.hashes[start : start + ROWS].tolist(), self.coarse.slice(start, ROWS).to_pylist())

    def take(self, rows: np.ndarray) -> "Marks":
        """Those at some positions, int (n,)."""
        return Marks(self.hashes[rows], self.coarse.take(pa.array(rows)))


@dataclass(frozen=True)
class Readable(Sequence[Sample]):
    """The readable files of a listing, or some of them, sorted by path, as columns.

    `digests` is the SHA-256 of each, uint8 (N, 32); `facts` what the modality tells of it; `marks` its fingerprint,
    where there is enough in it for one; `contents`, int (N,), as a sample's.
    """

    files: Files
    digests: np.ndarray
    contents: np.ndarray
    shapes: Coded[tuple[int, ...]]
    facts: Coded[Mapping[str, Any]]
    marks: Marks
    shards: Coded[Path]
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, rows: int) -> Sample: ...
    @overload
    def __getitem__(self, rows: slice) -> "Readable": ...
    def __getitem__(self, rows: int | slice) -> "Sample | Readable":
        if isinstance(rows, slice):
            return self.take(np.arange(len(self))[rows])
        return Sample(
            self.files[rows],
            self.digests[rows].tobytes().hex(),
            int(self.contents[rows]),
            self.shapes[rows],
            self.shards[rows],
            int(self.offsets[rows]),
        )

    def take(self, rows: np.ndarray) -> "Readable":
        """Those at rising positions, int (n,), or of a mask, bool (N,)."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        if len(positions) == len(self):
            return self
        return Readable(
            self.files.take(positions),
            self.digests[positions],
            self.contents[positions],
            self.shapes.take(positions),
            self.facts.take(positions),
            self.marks.take(positions),
            self.shards.take(positions),
            self.offsets[positions],
        )

    def labelled(self, labels: Coded[str]) -> "Readable":
        """The same samples with other labels."""
        return replace(self, files=self.files.labelled(labels))

    def unlabelled(self) -> "Readable":
        """The same samples without labels."""
        return replace(self, files=self.files.unlabelled())

    def of_paths(self, paths: Iterable[str]) -> np.ndarray:
        """Whether each sample has one of these paths, bool (N,)."""
        return self.files.paths.isin(paths)

    @property
    def ids(self) -> Iterator[str]:
        """The SHA-256 of each in hexadecimal digits."""
        for start in range(0, len(self), ROWS):
            yield from hexadecimal(self.digests[start : start + ROWS])

    @cached_property
    def copies(self) -> np.ndarray:
        """Whether the content of each sample is that of others too, bool (N,)."""
        _, numbers, counts = np.unique(self.contents, return_inverse=True, return_counts=True)
        return counts[numbers] > 1


def hexadecimal(digests: np.ndarray) -> list[str]:
    """Each digest, uint8 (N, 32), in hexadecimal digits."""
    digits = digests.tobytes().hex()
    return [digits[place : place + 64] for place in range(0, len(digits), 64)]


def numbers_of_contents(digests: np.ndarray) -> np.ndarray:
    """A number of each digest, uint8 (N, 32), int (N,): equal where they are, lower where they are."""
    if not len(digests):
        return np.empty(0, np.int32)
    numbers = np.unique(np.ascontiguousarray(digests).view("S32").ravel(), return_inverse=True)[1]
    return numbers.astype(np.int32)


def read_content(listing: Listing, file: File, kind: Modality, given: Section) -> Content | Refusal:
    """The content of a file of the listing, or the reason why it is refused."""
    try:
        raw = listing.read(file.path)
    except UnreadableSample as error:
        return hashed(listing, Refusal(file.path, str(error)))
    sha256 = hashlib.sha256(raw).hexdigest()
    contradiction = kind.contradiction(raw, PurePosixPath(file.path).suffix.lower())
    if contradiction is not None:
        return Refusal(file.path, contradiction, sha256)
    try:
        decoded = kind.decode(raw, given)
    except UnreadableSample as error:
        return Refusal(file.path, str(error), sha256)
    return Content(sha256, decoded.values, decoded.facts)


def hashed(listing: Listing, refusal: Refusal) -> Refusal:
    """The refusal with the SHA-256 of its file, where that can be read."""
    return refusal if refusal.sha256 else replace(refusal, sha256=listing.sha256(refusal.path))
