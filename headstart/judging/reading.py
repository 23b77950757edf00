"""Samples at an address as a model reads them, with the labels that the reference gives them."""

import hashlib
import heapq
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from headstart.data.listing import File, Labels
from headstart.data.reference import listed
from headstart.errors import InputError
from headstart.modalities import UnreadableSample, modality
from headstart.models.bundle import ModelBundle
from headstart.storage import s3

BATCH = 256


@dataclass(frozen=True)
class Read:
    """A batch of samples: their decoded values, files and ids (SHA-256 of the content); `refused` of it could not be
    read."""

    values: list[np.ndarray]
    files: list[File]
    ids: list[str]
    refused: int


def read_samples(bundle: ModelBundle, uri: str, labels: Labels, most: int | None = None) -> Iterator[Read]:
    """Yield the samples at `uri` in batches of 256; with `most`, no more than that, drawn by a hash of their paths.

    Raises:
        InputError: the reference cannot be read, has not the labels that are asked for, has a class that the model does
            not know, or holds no readable sample.
    """
    bundle.require_head()
    kind, given = modality(bundle.modality), bundle.preprocessing.given
    found = 0
    with (
        listed(uri, kind, labels, given=given) as listing,
        ThreadPoolExecutor(listing.readers or s3.CONNECTIONS) as pool,
    ):
        unknown = sorted(set(listing.classes or listing.several) - set(bundle.classes))
        if unknown:
            noun = "label" if listing.several else "class"
            raise InputError(
                f"{uri} has the {noun} '{unknown[0]}', which the model does not know; it knows: "
                f"{', '.join(bundle.classes[:20])}."
            )

        def decode(path: str) -> tuple[np.ndarray, str] | None:
            try:
                content = listing.read(path)
                return kind.decode(content, given).values, hashlib.sha256(content).hexdigest()
            except UnreadableSample:
                return None

        chosen = listing.files if most is None else heapq.nsmallest(most, listing.files, key=_drawn)
        for start in range(0, len(chosen), BATCH):
            files = chosen[start : start + BATCH]
            decoded = list(pool.map(decode, [file.path for file in files]))
            kept = [(*each, file) for each, file in zip(decoded, files, strict=True) if each is not None]
            found += len(kept)
            yield Read(
                [values for values, *_ in kept],
                [file for *_, file in kept],
                [digest for _, digest, _ in kept],
                len(files) - len(kept),
            )
    if not found:
        raise InputError(f"{uri} holds no {kind.noun} that can be read.")


def _drawn(file: File) -> bytes:
    return hashlib.sha256(file.path.encode()).digest()
