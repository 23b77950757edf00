"""The files of a listing, each read once: hashed and decoded, or refused with the reason."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from headstart.data.listing import File, Listing, Refusal
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
    """A readable file. Its array, of `shape`, is at `offset` in the file `shard`; `facts` is what the modality tells of
    it; `mark` is None where there is too little in it for a fingerprint."""

    file: File
    sha256: str
    shape: tuple[int, ...]
    facts: Mapping[str, Any]
    mark: Mark | None
    shard: Path
    offset: int


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
