"""Reads the files of a listing once: hashed, decoded and spooled, or refused with the reason."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from headstart.data.listing import File, Listing, Refusal
from headstart.data.looks import Look, looks_of
from headstart.modalities import Modality, UnreadableSample

_FILES_IN_FLIGHT = 64  # bounds the memory that decoded samples take before they are spooled


@dataclass(frozen=True)
class Sample:
    """A readable file; its pixels are uint8 (size, size, channels) at `offset` in the spool. `look` is None where they
    are too few or too much alike for one."""

    file: File
    sha256: str
    offset: int
    channels: int
    look: Look | None


def read_samples(
    listing: Listing, kind: Modality, *, size: int, channels: int | None, spool: BinaryIO
) -> tuple[list[Sample], list[Refusal]]:
    """The samples in the order of the listing, their pixels appended to `spool`, and the unreadable files.

    Decoding runs in threads: the decoders release the interpreter's lock.
    """
    samples: list[Sample] = []
    refused: list[Refusal] = []

    def read(file: File) -> tuple[str, np.ndarray] | Refusal:
        return _read(listing, file, kind, size, channels)

    offset = 0
    with ThreadPoolExecutor(max_workers=max(os.cpu_count() or 1, listing.readers or 1)) as pool:
        for start in range(0, len(listing.files), _FILES_IN_FLIGHT):
            batch = listing.files[start : start + _FILES_IN_FLIGHT]
            results = list(zip(batch, pool.map(read, batch), strict=True))
            refused += [result for _, result in results if isinstance(result, Refusal)]
            read_ones = [(file, *result) for file, result in results if not isinstance(result, Refusal)]
            looks = looks_of([pixels for _, _, pixels in read_ones])
            for (file, sha256, pixels), look in zip(read_ones, looks, strict=True):
                samples.append(Sample(file, sha256, offset, pixels.shape[2], look))
                offset += spool.write(pixels.tobytes())
    spool.flush()
    return samples, refused


def pixels_of(sample: Sample, size: int, spool: BinaryIO) -> np.ndarray:
    """The pixels of a sample, uint8 (size, size, channels)."""
    spool.seek(sample.offset)
    content = spool.read(size * size * sample.channels)
    return np.frombuffer(content, dtype=np.uint8).reshape(size, size, sample.channels)


def hashed(listing: Listing, refusal: Refusal) -> Refusal:
    """The refusal with the SHA-256 of its file, where that can be read."""
    return refusal if refusal.sha256 else replace(refusal, sha256=listing.sha256(refusal.path))


def _read(
    listing: Listing, file: File, kind: Modality, size: int, channels: int | None
) -> tuple[str, np.ndarray] | Refusal:
    try:
        raw = listing.read(file.path)
    except UnreadableSample as error:
        return hashed(listing, Refusal(file.path, str(error)))
    sha256 = hashlib.sha256(raw).hexdigest()
    contradiction = kind.contradiction(raw, PurePosixPath(file.path).suffix.lower())
    if contradiction is not None:
        return Refusal(file.path, contradiction, sha256)
    try:
        pixels = kind.decode(raw, size, channels)
    except UnreadableSample as error:
        return Refusal(file.path, str(error), sha256)
    return sha256, pixels
