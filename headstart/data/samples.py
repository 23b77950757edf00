"""The files of a listing, each read once: hashed and decoded, or refused with the reason."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from headstart.data.listing import File, Listing, Refusal
from headstart.data.near_duplicates import Look
from headstart.modalities import Modality, UnreadableSample


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a readable file: the SHA-256 of its bytes, the stored array, uint8 (size, size, channels), and the
    width and height in pixels of the picture as it is shown."""

    sha256: str
    pixels: np.ndarray
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A readable file. Its pixels are uint8 (size, size, channels) at `offset` in the file `shard`; `width` and
    `height` are the picture's own, in pixels; `look` is None where stored pixels are too few or too much alike for one.
    """

    file: File
    sha256: str
    width: int
    height: int
    channels: int
    look: Look | None
    shard: Path
    offset: int


def read_content(listing: Listing, file: File, kind: Modality, size: int, channels: int | None) -> Content | Refusal:
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
        pixels, (width, height) = kind.decode_sized(raw, size, channels)
    except UnreadableSample as error:
        return Refusal(file.path, str(error), sha256)
    return Content(sha256, pixels, width, height)


def hashed(listing: Listing, refusal: Refusal) -> Refusal:
    """The refusal with the SHA-256 of its file, where that can be read."""
    return refusal if refusal.sha256 else replace(refusal, sha256=listing.sha256(refusal.path))
