"""IDX files, the format of MNIST and its variants: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same
with `t10k` or `test`, each plain or as .gz, in one folder.

Format: http://yann.lecun.com/exdb/mnist: two zero bytes, the type (0x08, unsigned byte), the number of axes, the length
of each as a big-endian 32-bit number, then the values.
"""

import gzip
import math
import re
import struct
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np

from headstart.data.arrays import Pictures, list_arrays, on_disk
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.limits import MAX_ENTRIES, SMALL, allowed
from headstart.data.listing import Listing
from headstart.data.tree import Tree
from headstart.errors import InputError

_NAME = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_SPLIT = {"train": "train", "t10k": "test", "test": "test"}
_UNSIGNED_BYTE = 8


class Idx(Kind):
    def claims(self, source: Source) -> bool:
        return source.tree is not None and ("train", "images") in _found(source.tree)

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the pictures in a folder's IDX files.

        Raises:
            InputError: a file is missing, damaged or not what its name indicates.
        """
        assert source.tree is not None  # noqa: S101 - it claims folders only
        tree, files = source.tree, _found(source.tree)
        parts = []
        for split in sorted({split for split, _ in files}, reverse=True):
            pixels = _read(tree, files, split, "images", wanted.scratch)
            numbers = _read(tree, files, split, "labels", wanted.scratch) if wanted.labels != "none" else None
            parts.append(Pictures(split, pixels, None if numbers is None else [str(n) for n in numbers.tolist()]))
        return list_arrays(tree.name, parts, wanted.labels)


def _found(tree: Tree) -> dict[tuple[str, str], str]:
    """Return the names of the files by split and kind."""
    matches = [_NAME.fullmatch(entry.name) for entry in tree.entries("") if not entry.folder and not entry.refusal]
    return {(_SPLIT[match[1]], match[2]): match[0] for match in matches if match}


def _read(tree: Tree, files: dict[tuple[str, str], str], split: str, kind: str, scratch: Path | None) -> np.ndarray:
    if (split, kind) not in files:
        raise InputError(f"{tree.name} has IDX files, but none with the {kind} of its {split} split; add it.")
    file = files[split, kind]
    with tree.open(file) as content:
        packed = _size(content)
        if not file.endswith(".gz"):
            return _values(content, packed, f"{tree.name}/{file}", kind, scratch)
        with gzip.GzipFile(fileobj=content) as unpacked:
            return _values(cast(IO[bytes], unpacked), allowed(packed), f"{tree.name}/{file}", kind, scratch)


def _values(file: IO[bytes], limit: int, name: str, kind: str, scratch: Path | None) -> np.ndarray:
    axes = 3 if kind == "images" else 1
    try:
        header = file.read(4 + 4 * axes)
    except (EOFError, OSError) as error:
        raise InputError(f"{name} is damaged ({error}); fetch it again.") from error
    if len(header) < 4 + 4 * axes or header[:4] != bytes([0, 0, _UNSIGNED_BYTE, axes]):
        raise InputError(f"{name} is not an IDX file of {kind} in unsigned bytes; fetch it again.")
    shape = struct.unpack(f">{axes}I", header[4:])
    size = math.prod(shape)
    if shape[0] > MAX_ENTRIES or size > max(limit, SMALL):
        raise InputError(
            f"{name} announces {' × '.join(map(str, shape))} bytes, more than it can hold; fetch it again."
        )
    with on_disk(file, size, name, scratch) as copy:
        return np.memmap(copy, np.uint8, "r", shape=shape) if size else np.zeros(shape, np.uint8)


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


KIND = Idx()
