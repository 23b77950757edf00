"""Reads the files of a listing once: hashed, decoded and spooled, or refused with the reason."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from headstart.data.folder import File, Listing, Refusal
from headstart.modalities import Modality, UnreadableSample

MAX_BYTES = 256 * 2**20
_FILES_IN_FLIGHT = 64  # bounds the memory that decoded samples take before they are spooled


@dataclass(frozen=True)
class Sample:
    """A readable file; its pixels are uint8 (size, size, channels) at `offset` in the spool."""

    file: File
    sha256: str
    offset: int
    channels: int


def read_samples(
    listing: Listing, kind: Modality, *, size: int, channels: int | None, spool: BinaryIO
) -> tuple[list[Sample], list[Refusal]]:
    """The samples in the order of the listing, their pixels appended to `spool`, and the unreadable files.

    Decoding runs in threads: the decoders release the interpreter's lock.
    """
    samples: list[Sample] = []
    refused: list[Refusal] = []

    def read(file: File) -> tuple[str, np.ndarray] | Refusal:
        return _read(listing.root, file, kind, size, channels)

    offset = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, len(listing.files), _FILES_IN_FLIGHT):
            batch = listing.files[start : start + _FILES_IN_FLIGHT]
            for file, result in zip(batch, pool.map(read, batch), strict=True):
                if isinstance(result, Refusal):
                    refused.append(result)
                    continue
                sha256, pixels = result
                samples.append(Sample(file, sha256, offset, pixels.shape[2]))
                offset += spool.write(pixels.tobytes())
    spool.flush()
    return samples, refused


def hashed(root: Path, refusal: Refusal) -> Refusal:
    """The refusal with the SHA-256 of its file, where it is a regular file that can be read."""
    path = root / refusal.path
    if path.is_symlink() or not path.is_file():
        return refusal
    try:
        with path.open("rb") as file:
            return replace(refusal, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return refusal


def _read(root: Path, file: File, kind: Modality, size: int, channels: int | None) -> tuple[str, np.ndarray] | Refusal:
    path = root / file.path
    try:
        if path.stat().st_size > MAX_BYTES:
            return hashed(root, Refusal(file.path, f"the file has more than {MAX_BYTES // 2**20} MiB"))
        raw = path.read_bytes()
    except OSError as error:
        return Refusal(file.path, f"the file cannot be read: {error.strerror}")
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        return sha256, kind.decode(raw, size, channels)
    except UnreadableSample as error:
        return Refusal(file.path, str(error), sha256)
