"""Listings: the files of a data reference with their labels, and the functions that read them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from headstart.errors import InputError

Labels = Literal["required", "optional", "none"]
"""Whether files have labels. `required`: each has one. `optional`: none has where the reference gives none.
`none`: no file has one, whatever the reference says."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The split that a folder or a manifest's row means, by what it says in lower case."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that may hold a sample. `path` is relative to what the reference names, with slashes, and its own; where
    it has none, `label` is "", and `split` and `group` None."""

    path: str
    label: str
    split: str | None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file or folder that is not taken in, and why. `sha256` is None where the content was not read."""

    path: str
    reason: str
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """The samples that a reference names: `files` and `refused` sorted by path, none of them opened yet; `classes` in
    the order of their indices, none where files have no labels; `splits` are the given ones.

    `name` is what messages call it. `read` gives the content of a file by its path, or raises UnreadableSample; more
    than `readers` threads gain nothing. `sha256` is the digest of a refused file's content, where that can be read.
    `state` changes whenever the content of a file does, without any being read; None where nobody knows.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    files: tuple[File, ...]
    refused: tuple[Refusal, ...]
    read: Callable[[str], bytes]
    sha256: Callable[[str], str | None] = lambda _: None
    readers: int | None = None
    state: Callable[[str], str | None] = lambda _: None


def place(name: str, label: str) -> str:
    """The name in messages of the files of the data set `name` that have this label."""
    return f"Class '{label}' in {name}" if label else name


def check_classes(listing: Listing, labels: Labels) -> None:
    """InputError unless there are two classes or more, each in train and, where it is given, in test."""
    if not listing.classes:
        raise InputError(f"{listing.name} has no class folders; lay its images out as <class>/<file>.")
    filled = {file.label for file in listing.files}
    if not filled:
        raise InputError(f"{listing.name} has no images in its class folders ({_names(listing.classes)}).")
    for label in listing.classes:
        if label not in filled:
            raise InputError(f"Class '{label}' in {listing.name} has no images; add some or remove its folder.")
    if len(listing.classes) == 1:
        unlabelled = "; where folders do not name classes, say labels: none" if labels == "optional" else ""
        raise InputError(
            f"{listing.name} has one class only ('{listing.classes[0]}'); a classifier needs two class folders or "
            f"more{unlabelled}."
        )
    for split in listing.splits:
        present = {file.label for file in listing.files if file.split == split}
        absent = [label for label in listing.classes if label not in present]
        if absent and split != "val":
            raise InputError(
                f"Class '{absent[0]}' in {listing.name} has no images in {split}/; add at least one there."
            )


def natural(labels: set[str]) -> tuple[str, ...]:
    """Labels in the order of their numbers where all are numbers, of their names elsewhere."""
    if all(label.isascii() and label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
