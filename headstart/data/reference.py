"""References to data: what a URI points at, whether it changed, and whether it can become a data set."""

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headstart.data.folder import File, Labels, Listing, Refusal, is_flat, list_folder, place
from headstart.errors import InputError
from headstart.modalities import Modality, UnreadableSample, modality

_PROBES_PER_CLASS = 10


@dataclass(frozen=True)
class Summary:
    """What `check` saw: image counts by class, or in all under "" where there are no labels, the given splits, and what
    preparation would refuse so far."""

    images: dict[str, int]
    splits: tuple[str, ...]
    refused: tuple[Refusal, ...]


def local_folder(uri: str) -> Path:
    """The existing folder that a path or `file://` URI names, with links resolved; InputError for anything else."""
    path = _local_path(uri)
    if path is None:
        raise InputError(f"Data reference '{uri}' is not understood; give a folder's path or file:///path/to/folder.")
    if not path.exists():
        raise InputError(f"Data folder '{uri}' does not exist (looked at {path.absolute()}); correct the path.")
    if not path.is_dir():
        raise InputError(f"Data reference '{uri}' is a file; give the folder that holds the class folders.")
    try:
        os.listdir(path)
    except PermissionError:
        raise InputError(f"Data folder '{uri}' cannot be read; ask for read permission on {path.absolute()}.") from None
    return path.resolve()


def fingerprint(uri: str) -> str | None:
    """ "stat:<hex>" over the names, sizes and modification times of all files below `uri`; None if unreachable.

    It changes whenever a file is added, removed, renamed or written, without any of them being read.
    """
    try:
        root = local_folder(uri)
    except InputError:
        return None
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            state = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
            line = f"{path.relative_to(root).as_posix()}\0{state.st_size}\0{state.st_mtime_ns}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return "stat:" + digest.hexdigest()


def has_no_labels(uri: str, *, modality_name: str = "image") -> bool:
    """Whether `uri` names a folder that holds samples and no folders; InputError if it cannot be reached."""
    return is_flat(local_folder(uri), modality(modality_name).extensions)


def check(uri: str, *, modality_name: str = "image", labels: Labels = "required") -> Summary:
    """Looks whether `uri` can become a data set, decoding a few samples of each class only.

    InputError where it cannot: an unknown scheme, no folder, no or one class, a class that is empty, has a single
    sample, or has none among its first samples that is readable. Bad files in a good class are in the summary.
    """
    kind = modality(modality_name)
    listing = list_folder(local_folder(uri), kind.extensions, labels)
    by_class: dict[str, list[File]] = defaultdict(list)
    for file in listing.files:
        by_class[file.label].append(file)
    refused = list(listing.refused)
    for label, files in by_class.items():
        if len(files) < 2:
            raise InputError(f"{place(listing.root, label)} has 1 image; train and test need at least one each.")
        refused += _probe_class(listing, label, files, kind)
    return Summary(
        images={label: len(by_class[label]) for label in listing.classes or ("",)},
        splits=listing.splits,
        refused=tuple(refused),
    )


def _probe_class(listing: Listing, label: str, files: list[File], kind: Modality) -> list[Refusal]:
    """The unreadable ones among a class's first files; InputError if a whole class is unreadable."""
    refused: list[Refusal] = []
    for count, file in enumerate(files, start=1):
        try:
            kind.decode((listing.root / file.path).read_bytes(), size=8)
        except (OSError, UnreadableSample) as error:
            refused.append(Refusal(file.path, str(error)))
        if count >= _PROBES_PER_CLASS and len(refused) < count:
            break
    if len(refused) == len(files):
        raise InputError(
            f"{place(listing.root, label)} has no readable image ({refused[0].path}: {refused[0].reason}); "
            "replace its files."
        )
    return refused


def _local_path(uri: str) -> Path | None:
    if "://" not in uri:
        return Path(uri).expanduser()
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))
