"""Files in folders: `<class>/<file>`, or the same inside `train/`, `val/` and `test/`; without labels, files alone."""

import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headstart.errors import InputError

Labels = Literal["required", "optional", "none"]
"""Whether files have labels. `required`: each lies in a class folder. `optional`: none has where the folder holds files
and no folders. `none`: no file has one, however deep it lies and whatever the folders are called."""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class File:
    """A file that may hold a sample. `path` is relative to the folder, with slashes; where it has none, `label` is ""
    and `split` None."""

    path: str
    label: str
    split: str | None


@dataclass(frozen=True)
class Refusal:
    """A file or folder that is not taken in, and why. `sha256` is None where the content was not read."""

    path: str
    reason: str
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: `files` and `refused` sorted by path, `classes` by name, none of them where files have no
    labels; `splits` are the given ones."""

    root: Path
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    files: tuple[File, ...]
    refused: tuple[Refusal, ...]


def list_folder(root: Path, extensions: Set[str], labels: Labels = "required") -> Listing:
    """Lists the files of `root` by name, without opening any.

    A class's folder may have sub-folders. Hidden entries, other extensions, special files and symbolic links
    that lead to a folder or out of `root` are refused one by one. InputError where the whole folder cannot be
    a data set: no class or only one, or a class without any file; without labels, no file.
    """
    root = root.resolve()
    top = _read_folder(root, root, extensions)
    if labels == "none" or (labels == "optional" and _is_flat(top)):
        return _list_unlabelled(root, top, extensions)
    refused = top.refused + [
        Refusal(_relative(root, file), "not in a class folder: it has no label") for file in top.files
    ]
    split_folders = _split_folders(root, top.folders, extensions)
    files: list[File] = []
    classes: set[str] = set()
    for split, folder in split_folders.items() if split_folders else [(None, root)]:
        content = _read_folder(root, folder, extensions)
        if split is not None:
            refused += content.refused
            refused += [
                Refusal(_relative(root, file), "not in a class folder: it has no label") for file in content.files
            ]
        for class_folder in content.folders:
            classes.add(class_folder.name)
            found, refused_here = _read_tree(root, class_folder, extensions)
            files += [File(_relative(root, path), class_folder.name, split) for path in found]
            refused += refused_here
    listing = Listing(
        root=root,
        classes=tuple(sorted(classes)),
        splits=tuple(split_folders),
        files=tuple(sorted(files, key=lambda file: file.path)),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.path)),
    )
    _check_classes(listing, labels)
    return listing


def is_flat(root: Path, extensions: Set[str]) -> bool:
    """Whether `root` holds files and no folders, so that no file has a label."""
    root = root.resolve()
    return _is_flat(_read_folder(root, root, extensions))


def place(root: Path, label: str) -> str:
    """What a message calls the files of `root` that have this label."""
    return f"Class '{label}' in {root}" if label else str(root)


@dataclass
class _Folder:
    folders: list[Path]
    files: list[Path]
    refused: list[Refusal]


def _is_flat(top: _Folder) -> bool:
    return bool(top.files) and not top.folders


def _list_unlabelled(root: Path, top: _Folder, extensions: Set[str]) -> Listing:
    """All files below `root`, without labels; split folders, where there are no others, give the splits."""
    named = all(folder.name.lower() in _SPLIT_NAMES for folder in top.folders)
    splits = _by_split(root, top.folders) if top.folders and named and not top.files else {}
    files: list[File] = []
    refused = list(top.refused) if splits else []
    for split, folder in splits.items() if splits else [(None, root)]:
        found, refused_here = _read_tree(root, folder, extensions)
        files += [File(_relative(root, path), "", split) for path in found]
        refused += refused_here
        if not found and split != "val":
            raise InputError(f"{folder} has no images; add some.")
    return Listing(
        root=root,
        classes=(),
        splits=tuple(splits),
        files=tuple(sorted(files, key=lambda file: file.path)),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.path)),
    )


def _read_folder(root: Path, folder: Path, extensions: Set[str]) -> _Folder:
    content = _Folder([], [], [])
    for name in sorted(os.listdir(folder)):
        path = folder / name
        reason = _reason_to_refuse(root, path, extensions)
        if reason is not None:
            content.refused.append(Refusal(_relative(root, path), reason))
        elif path.is_dir():
            content.folders.append(path)
        else:
            content.files.append(path)
    return content


def _read_tree(root: Path, folder: Path, extensions: Set[str]) -> tuple[list[Path], list[Refusal]]:
    content = _read_folder(root, folder, extensions)
    for subfolder in content.folders:
        files, refused = _read_tree(root, subfolder, extensions)
        content.files += files
        content.refused += refused
    return content.files, content.refused


def _reason_to_refuse(root: Path, path: Path, extensions: Set[str]) -> str | None:
    """Why an entry is not taken in, from its name and kind alone; None if nothing speaks against it."""
    if not _is_utf8(path.name):
        return "its name is not valid UTF-8; rename it"
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        if not path.exists():
            return "a symbolic link to nothing"
        if path.is_dir():
            return "a symbolic link to a folder; put the folder itself here"
        if not path.resolve().is_relative_to(root):
            return "a symbolic link out of the data folder; put the file itself here"
    if path.is_dir():
        return None
    if not path.is_file():
        return "not a regular file"
    if path.suffix.lower() not in extensions:
        return f"not an image: {path.suffix or 'a name without extension'}"
    return None


def _split_folders(root: Path, folders: list[Path], extensions: Set[str]) -> dict[str, Path]:
    """The folders that are given splits, in the order train, val, test; empty where the folders are classes."""
    # A class may be called "train" too; what makes a split is that it holds folders and no images.
    named = [folder for folder in folders if folder.name.lower() in _SPLIT_NAMES]
    contents = {folder: _read_folder(root, folder, extensions) for folder in named}
    holding_classes = [folder for folder in named if contents[folder].folders and not contents[folder].files]
    if not holding_classes:
        return {}
    others = sorted({folder.name for folder in folders} - {folder.name for folder in named})
    if others:
        raise InputError(
            f"{root} has a split folder '{holding_classes[0].name}' beside '{others[0]}'; keep train, val and test "
            "(each with class folders inside) alone in the data folder, or class folders alone."
        )
    return _by_split(root, named)


def _by_split(root: Path, named: list[Path]) -> dict[str, Path]:
    """The split folders by split, in the order train, val, test; InputError if train is missing or one comes twice."""
    splits: dict[str, Path] = {}
    for folder in named:
        split = _SPLIT_NAMES[folder.name.lower()]
        if split in splits:
            raise InputError(f"{root} has both '{splits[split].name}' and '{folder.name}'; keep one of them.")
        splits[split] = folder
    if "train" not in splits:
        raise InputError(f"{root} has '{named[0].name}' but no 'train' folder; add it, or use class folders alone.")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _check_classes(listing: Listing, labels: Labels) -> None:
    if not listing.classes:
        raise InputError(f"{listing.root} has no class folders; lay its images out as <class>/<file>.")
    filled = {file.label for file in listing.files}
    if not filled:
        raise InputError(f"{listing.root} has no images in its class folders ({_names(listing.classes)}).")
    for label in listing.classes:
        if label not in filled:
            raise InputError(f"Class '{label}' in {listing.root} has no images; add some or remove its folder.")
    if len(listing.classes) == 1:
        unlabelled = "; where folders do not name classes, say labels: none" if labels == "optional" else ""
        raise InputError(
            f"{listing.root} has one class only ('{listing.classes[0]}'); a classifier needs two class folders or "
            f"more{unlabelled}."
        )
    for split in listing.splits:
        present = {file.label for file in listing.files if file.split == split}
        absent = [label for label in listing.classes if label not in present]
        if absent and split != "val":
            raise InputError(
                f"Class '{absent[0]}' in {listing.root} has no images in {split}/; add at least one there."
            )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _relative(root: Path, path: Path) -> str:
    # A name that is not UTF-8 reaches Python with surrogates, which neither JSON nor Parquet can hold.
    return path.relative_to(root).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
