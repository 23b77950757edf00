"""Listings: files of a data reference with their labels, and functions that read them."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload

from headstart.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from headstart.data.columns import Coded, Texts

Labels = Literal["required", "optional", "none", "numbers", "several"]
"""Labels of a listing's files. `required`: each file has one. `optional`: all have one, or none if the reference gives
none. `none`: labels in the reference are ignored. `numbers`: each file has one, and it is a number.
`several`: each file says which labels it has of several."""

LABELS_OF_TASKS: Mapping[str, Labels] = {"regression": "numbers", "multi_label": "several"}
"""What labels are asked for by tasks whose labels are not the names of classes"""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Split by the lower-case name of a folder or a manifest's value"""


@dataclass(frozen=True, slots=True)
class File:
    """A file that may hold a sample. `path` is unique and relative to the reference, with slashes; without a label,
    `label` is ""; without a split or group, these are None."""

    path: str
    label: str
    split: str | None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file or folder that is not used, with the reason. `sha256` is None if the content was not read."""

    path: str
    reason: str
    sha256: str | None = None


@dataclass(frozen=True)
class Files(Sequence[File]):
    """Files, sorted by path, as a column of each of their fields."""

    paths: "Texts"
    labels: "Coded[str]"
    splits: "Coded[str | None]"
    groups: "Coded[str | None]"

    @classmethod
    def of(cls, files: Iterable[File]) -> "Files":
        """The same files in order."""
        if isinstance(files, Files):
            return files
        import numpy as np

        from headstart.data.columns import Codes, Texts

        labels: Codes[str] = Codes()
        splits: Codes[str | None] = Codes()
        groups: Codes[str | None] = Codes()
        codes = tuple(array("i") for _ in range(3))

        def paths() -> Iterator[str]:
            for file in files:
                codes[0].append(labels.number(file.label, file.label))
                codes[1].append(splits.number(file.split, file.split))
                codes[2].append(groups.number(file.group, file.group))
                yield file.path

        found = cls(
            Texts.of(paths()),
            labels.coded(np.frombuffer(codes[0], np.int32)),
            splits.coded(np.frombuffer(codes[1], np.int32)),
            groups.coded(np.frombuffer(codes[2], np.int32)),
        )
        order = found.paths.order
        return found if order is None else found.take(order)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, rows: int) -> File: ...
    @overload
    def __getitem__(self, rows: slice) -> "Files": ...
    def __getitem__(self, rows: int | slice) -> "File | Files":
        if isinstance(rows, slice):
            return Files(self.paths[rows], self.labels[rows], self.splits[rows], self.groups[rows])
        return File(self.paths[rows], self.labels[rows], self.splits[rows], self.groups[rows])

    def __iter__(self) -> Iterator[File]:
        return map(File, self.paths, self.labels, self.splits, self.groups)

    def take(self, rows: "np.ndarray") -> "Files":
        """Those at some positions, int (n,)."""
        return Files(self.paths.take(rows), self.labels.take(rows), self.splits.take(rows), self.groups.take(rows))

    def labelled(self, labels: "Coded[str]") -> "Files":
        """The same files with other labels."""
        return replace(self, labels=labels)

    def unlabelled(self) -> "Files":
        """The same files without labels."""
        import numpy as np

        from headstart.data.columns import Coded

        return self.labelled(Coded([""], np.zeros(len(self), np.int32)))


@dataclass(frozen=True)
class Listing:
    """The samples of a reference. `files`, which may be given in any order and as any sequence, and `refused` are
    sorted by path and not opened yet; `classes` are ordered by index and empty without labels, and where these are
    numbers or several each; `several` are the names of the latter. `splits` are the given ones. `task` is what labels
    are learned as; `looks` says why, where the recipe does not.

    `name` is for messages. `read` returns the content of a file by its path, or raises UnreadableSample; `readers` is
    the number of threads that it can use. `sha256` gives the digest of a refused file's content, if that can be read.
    `state` gives a text that changes whenever a file's content does, without reading it, or None.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    files: Sequence[File]
    refused: tuple[Refusal, ...]
    read: Callable[[str], bytes]
    sha256: Callable[[str], str | None] = lambda _: None
    readers: int | None = None
    state: Callable[[str], str | None] = lambda _: None
    several: tuple[str, ...] = ()
    task: str = "single_label"
    looks: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", Files.of(self.files))

    @property
    def columns(self) -> Files:
        """The files as columns."""
        return Files.of(self.files)


def split_named(given: str, at: str) -> str | None:
    """Return the split that a table or a header names so, None for no name.

    Raises:
        InputError: there is no such split; `at` is the place.
    """
    if given and given.lower() not in SPLIT_NAMES:
        raise InputError(f"{at}: split '{given[:80]}' is not known; write train, val or test.")
    return SPLIT_NAMES.get(given.lower())


def splits_of(name: str, files: Iterable[File], *, noun: str, remedy: str) -> tuple[str, ...]:
    """Return the splits that a reference gives its files, each of which is called a `noun`.

    Raises:
        InputError: some have a split and others none, or none is for training; `remedy` gives the latter a way out.
    """
    given = set(files.splits.values) if isinstance(files, Files) else {file.split for file in files}
    if None in given and len(given) > 1:
        raise InputError(f"{name} gives some {noun}s a split and others none; give all of them one, or none.")
    if given - {None} and "train" not in given:
        raise InputError(f"{name} gives no {noun} the split train; add some, or {remedy}.")
    return tuple(split for split in ("train", "val", "test") if split in given)


def place(name: str, label: str) -> str:
    """Return the name for messages of the files with this label in the data set `name`."""
    return f"Class '{label}' in {name}" if label else name


def check_classes(listing: Listing, labels: Labels) -> None:
    """Check the listing's classes.

    Raises:
        InputError: there are fewer than two, or one has no files, in total or in the given train or test split.
    """
    if labels in ("numbers", "several"):
        return
    if not listing.classes:
        raise InputError(f"{listing.name} has no class folders; lay its samples out as <class>/<file>.")
    files = listing.columns
    filled = set(files.labels.occurring)
    if not filled:
        raise InputError(f"{listing.name} has no samples in its class folders ({_names(listing.classes)}).")
    for label in listing.classes:
        if label not in filled:
            raise InputError(f"Class '{label}' in {listing.name} has no samples; add some or remove its folder.")
    if len(listing.classes) == 1:
        unlabelled = "; where folders do not name classes, say labels: none" if labels == "optional" else ""
        raise InputError(
            f"{listing.name} has one class only ('{listing.classes[0]}'); a classifier needs two class folders or "
            f"more{unlabelled}."
        )
    for split in listing.splits:
        among = files.splits.codes == files.splits.values.index(split)
        present = set(files.labels.take(among).occurring)
        absent = [label for label in listing.classes if label not in present]
        if absent and split != "val":
            raise InputError(
                f"Class '{absent[0]}' in {listing.name} has no samples in {split}/; add at least one there."
            )


def natural(labels: set[str]) -> tuple[str, ...]:
    """Sort labels by value if all are whole numbers, else by name."""
    if all(label.isascii() and label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
