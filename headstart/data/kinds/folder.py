"""Folders of files: `<class>/<file>`, or the same inside `train/`, `val/` and `test/`; without labels, files only."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from headstart.data.kind import Kind, Source, Wanted
from headstart.data.listing import SPLIT_NAMES, File, Labels, Listing, Refusal, check_classes
from headstart.data.tree import Tree, join
from headstart.errors import InputError

# Added to archives by macOS.
_IGNORED = frozenset({"__MACOSX"})

_MAX_DEPTH = 100


class Folder(Kind):
    any_folder = True

    def claims(self, source: Source) -> bool:
        return source.tree is not None

    def list(self, source: Source, wanted: Wanted) -> Listing:
        assert source.tree is not None  # noqa: S101 - it claims folders only
        return _list(source.tree, wanted.modality.extensions, wanted.labels)

    def is_unlabelled(self, source: Source, extensions: Set[str]) -> bool:
        """Return whether the folder holds files and no folders, so that no file has a label."""
        return source.tree is not None and _read_folder(source.tree, "", extensions).is_flat


def _list(tree: Tree, extensions: Set[str], labels: Labels) -> Listing:
    """List the files of `tree` by name, without opening any.

    A class's folder may have sub-folders. Hidden entries, other extensions, and entries that the tree refuses (special
    files, links to a folder or out of the tree) are refused one by one.

    Raises:
        InputError: the folder cannot be a data set: fewer than two classes, or a class without files; without labels,
            no files.
    """
    top = _read_folder(tree, "", extensions)
    top.refused += tree.refused
    if labels == "none" or (labels == "optional" and top.is_flat):
        return _list_unlabelled(tree, top, extensions)
    refused = top.refused + [Refusal(path, "not in a class folder: it has no label") for path in top.files]
    split_folders = _split_folders(tree, top.folders, extensions)
    files: list[File] = []
    classes: set[str] = set()
    for split, folder in split_folders.items() if split_folders else [(None, "")]:
        content = _read_folder(tree, folder, extensions)
        if split is not None:
            refused += content.refused
            refused += [Refusal(path, "not in a class folder: it has no label") for path in content.files]
        for class_folder in content.folders:
            label = _own_name(class_folder)
            classes.add(label)
            found, refused_here = _read_tree(tree, class_folder, extensions)
            files += [File(path, label, split) for path in found]
            refused += refused_here
    listing = _listing(tree, tuple(sorted(classes)), tuple(split_folders), files, refused)
    check_classes(listing, labels)
    return listing


@dataclass
class _Folder:
    """The paths in a folder."""

    folders: list[str]
    files: list[str]
    refused: list[Refusal]

    @property
    def is_flat(self) -> bool:
        """True if it holds files and no folders."""
        return bool(self.files) and not self.folders


def _listing(
    tree: Tree, classes: tuple[str, ...], splits: tuple[str, ...], files: list[File], refused: list[Refusal]
) -> Listing:
    return Listing(
        name=tree.name,
        classes=classes,
        splits=splits,
        files=tuple(sorted(files, key=lambda file: file.path)),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.path)),
        read=tree.read,
        sha256=tree.sha256,
        readers=tree.readers,
        state=tree.state,
    )


def _list_unlabelled(tree: Tree, top: _Folder, extensions: Set[str]) -> Listing:
    """List all files below the root without labels. If there are only split folders, they give the splits."""
    named = all(_own_name(folder).lower() in SPLIT_NAMES for folder in top.folders)
    splits = _by_split(tree, top.folders) if top.folders and named and not top.files else {}
    files: list[File] = []
    refused = list(top.refused) if splits else list(tree.refused)
    for split, folder in splits.items() if splits else [(None, "")]:
        found, refused_here = _read_tree(tree, folder, extensions)
        files += [File(path, "", split) for path in found]
        refused += refused_here
        if not found and split != "val":
            raise InputError(f"{join(tree.name, folder) if folder else tree.name} has no samples; add some.")
    return _listing(tree, (), tuple(splits), files, refused)


def _read_folder(tree: Tree, folder: str, extensions: Set[str]) -> _Folder:
    content = _Folder([], [], [])
    for entry in tree.entries(folder):
        path = join(folder, entry.name)
        if not _is_utf8(entry.name):
            # Python represents invalid UTF-8 by surrogates, which neither JSON nor Parquet can store.
            path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            content.refused.append(Refusal(path, "its name is not valid UTF-8; rename it"))
        elif entry.name.startswith(".") or entry.name in _IGNORED:
            content.refused.append(Refusal(path, "hidden"))
        elif entry.refusal is not None:
            content.refused.append(Refusal(path, entry.refusal))
        elif entry.folder and path.count("/") >= _MAX_DEPTH:
            content.refused.append(Refusal(path, f"it lies more than {_MAX_DEPTH} folders deep"))
        elif entry.folder:
            content.folders.append(path)
        elif (suffix := PurePosixPath(entry.name).suffix).lower() not in extensions:
            content.refused.append(Refusal(path, f"not a sample: {suffix or 'a name without extension'}"))
        else:
            content.files.append(path)
    return content


def _read_tree(tree: Tree, folder: str, extensions: Set[str]) -> tuple[list[str], list[Refusal]]:
    content = _read_folder(tree, folder, extensions)
    for subfolder in content.folders:
        files, refused = _read_tree(tree, subfolder, extensions)
        content.files += files
        content.refused += refused
    return content.files, content.refused


def _split_folders(tree: Tree, folders: list[str], extensions: Set[str]) -> dict[str, str]:
    """Return the folders of given splits, in the order train, val, test; empty if the folders are classes."""
    # A class may be called "train" too; a split folder holds folders and no images.
    named = [folder for folder in folders if _own_name(folder).lower() in SPLIT_NAMES]
    contents = {folder: _read_folder(tree, folder, extensions) for folder in named}
    holding_classes = [folder for folder in named if contents[folder].folders and not contents[folder].files]
    if not holding_classes:
        return {}
    others = sorted(set(folders) - set(named))
    if others:
        raise InputError(
            f"{tree.name} has a split folder '{_own_name(holding_classes[0])}' beside '{others[0]}'; keep train, val "
            "and test (each with class folders inside) alone in the data folder, or class folders alone."
        )
    return _by_split(tree, named)


def _by_split(tree: Tree, named: list[str]) -> dict[str, str]:
    """Return the split folders by split, in the order train, val, test.

    Raises:
        InputError: train is missing, or a split occurs twice.
    """
    splits: dict[str, str] = {}
    for folder in named:
        split = SPLIT_NAMES[_own_name(folder).lower()]
        if split in splits:
            raise InputError(f"{tree.name} has both '{splits[split]}' and '{folder}'; keep one of them.")
        splits[split] = folder
    if "train" not in splits:
        raise InputError(f"{tree.name} has '{named[0]}' but no 'train' folder; add it, or use class folders alone.")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _own_name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


KIND = Folder()
