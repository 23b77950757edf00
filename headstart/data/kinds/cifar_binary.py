"""CIFAR-10 and CIFAR-100 as published in binary (https://www.cs.toronto.edu/~kriz/cifar.html), in a folder.

Each file is a row of records: one byte for the label, of CIFAR-100 two, the coarse one first, and 3072 bytes for the
red, green and blue values of 32 × 32 pixels.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from headstart.data.arrays import Pictures, list_arrays
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.listing import Listing
from headstart.data.tree import Tree
from headstart.errors import InputError
from headstart.modalities import UnreadableSample

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Edition:
    """`names` is the file with the classes' names, a line each; `labels` is the number of bytes before the pixels, of
    which the last is the label."""

    names: str
    labels: int
    train: tuple[str, ...]
    test: str


_EDITIONS = (
    _Edition("batches.meta.txt", 1, tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
    _Edition("fine_label_names.txt", 2, ("train.bin",), "test.bin"),
)
_HOME = "fetch https://www.cs.toronto.edu/~kriz/{}.tar.gz and unpack it, which gives this folder with {}"


class CifarBinary(Kind):
    published: ClassVar = {
        "cifar-10-batches-bin": _HOME.format(
            "cifar-10-binary", "data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt"
        ),
        "cifar-100-binary": _HOME.format("cifar-100-binary", "train.bin, test.bin and fine_label_names.txt"),
    }

    def claims(self, source: Source) -> bool:
        return source.tree is not None and _edition(source.tree) is not None

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the pictures of CIFAR-10 or CIFAR-100, with the fine labels.

        Raises:
            InputError: a file is missing, cut short or not CIFAR's.
        """
        assert source.tree is not None  # noqa: S101 - it claims folders only
        tree, edition = source.tree, _edition(source.tree)
        assert edition is not None  # noqa: S101 (as above)
        classes = _read(tree, edition.names).decode("utf-8", "replace").split()
        parts = []
        for split, files in (("train", edition.train), ("test", (edition.test,))):
            records = np.concatenate([_records(tree, file, edition, classes) for file in files])
            pixels = records[:, edition.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts.append(Pictures(split, pixels, [classes[label] for label in records[:, edition.labels - 1]]))
        return list_arrays(tree.name, parts, wanted.labels, classes)


def _edition(tree: Tree) -> _Edition | None:
    names = {entry.name for entry in tree.entries("") if not entry.folder and not entry.refusal}
    return next((e for e in _EDITIONS if e.names in names and names & {e.test, *e.train}), None)


def _records(tree: Tree, file: str, edition: _Edition, classes: list[str]) -> np.ndarray:
    """The records of a file, uint8 (N, labels and pixels)."""
    name, size = f"{tree.name}/{file}", edition.labels + _PIXELS
    content = _read(tree, file)
    if not content or len(content) % size:
        raise InputError(
            f"{name} has {len(content):,} bytes, which are no whole pictures of CIFAR with {size} bytes each; fetch it "
            "again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, edition.labels - 1]
    if labels.max() >= len(classes):
        number = int(np.argmax(labels >= len(classes)))
        raise InputError(
            f"{name} gives picture {number + 1} the label {labels[number]}, and {edition.names} names {len(classes)} "
            "classes, from 0 on; fetch it again."
        )
    return records


def _read(tree: Tree, file: str) -> bytes:
    try:
        return tree.read(file)
    except UnreadableSample as error:
        raise InputError(f"{tree.name}/{file} cannot be read ({error}); fetch CIFAR in binary again.") from error


KIND = CifarBinary()
