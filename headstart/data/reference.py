"""Data references: resolution, fingerprint and validation of a data URI.

The kinds of data are in headstart/data/kinds/:

    a folder of images                pictures/cat/1.png, or pictures/train/cat/1.png
    an archive of such a folder       pictures.zip, .tar, .tar.gz
    a table of samples                manifest.csv, .parquet: path, label, and where wanted split and group; in the
                                      place of path, text or image, … with the samples themselves
    a file of sequences               genes.fasta, .fna, .faa, …, or those as .gz: a record each
    a folder of IDX files             train-images-idx3-ubyte.gz, …
    a folder of CIFAR's batches       data_batch_1, … or train, test, meta; data_batch_1.bin, … or train.bin, test.bin
    a folder of WikiText              wiki.train.raw, … or train-00000-of-00002.parquet, …
    arrays of numpy                   pictures.npz: x_train, y_train, x_test, y_test, or images and labels
    a data set of torchvision         torchvision://FashionMNIST

All but the last are given by a path or as `s3://bucket/prefix`. The content of an S3 prefix or an archive is classified
like that of a local folder.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from headstart.data.kind import Kind, Source, Wanted, file_suffixes, how_to_get, kind_by_scheme, kind_of
from headstart.data.listing import File, Labels, Listing, Refusal, place
from headstart.data.remote import RemoteTree
from headstart.data.several import with_several
from headstart.data.strata import with_numbers
from headstart.data.task import Asked, task_of
from headstart.data.tree import LocalTree, one_line
from headstart.errors import HeadstartError, InputError, MissingData, shortened
from headstart.metrics.task import REGRESSION, SINGLE_LABEL
from headstart.modalities import Modality, UnreadableSample, modality
from headstart.sections import Section
from headstart.storage import cache, s3

_PROBES_PER_CLASS = 10


@dataclass(frozen=True)
class Summary:
    """The result of `check`: sample counts by class (under "" without classes), the given splits, the files found so
    far that preparation would refuse, and the task that labels are learned as, with the reason where nobody has
    named it."""

    samples: dict[str, int]
    splits: tuple[str, ...]
    refused: tuple[Refusal, ...]
    task: str
    looks: str


def located(uri: str) -> str:
    """Return a reference that is valid in any working directory: a path with links resolved, or a URI.

    Raises:
        InputError: it is not understood, or names a path that does not exist or holds no data.
    """
    if kind := kind_by_scheme(uri):
        kind.place(Source(uri))
    return str(local_folder(uri)) if is_local(uri) else uri


def is_local(uri: str) -> bool:
    """Return whether `uri` is a path or URI on this machine."""
    return not s3.is_s3(uri) and kind_by_scheme(uri) is None


def local_folder(uri: str) -> Path:
    """Return the existing folder, archive, table or .npz file that a path or `file://` URI names, with links resolved.

    Raises:
        InputError: it names anything else.
    """
    path = _local_path(uri)
    if path is None:
        raise InputError(
            f"Data reference '{uri}' is not understood; give a path, file:///path, s3://bucket/prefix or "
            "torchvision://NAME."
        )
    if not path.exists():
        missing = f"Data folder '{uri}' does not exist (looked at {path.absolute()})"
        if remedy := how_to_get(path.name):
            raise InputError(f"{missing}; {remedy}.")
        raise MissingData(f"{missing}; correct the path.")
    if not path.is_dir() and not _is_data_file(path.name):
        raise InputError(
            f"Data reference '{uri}' is a file; give the folder that holds the class folders, or a "
            f"{_listed_suffixes()} file."
        )
    try:
        os.listdir(path) if path.is_dir() else path.open("rb").close()
    except PermissionError:
        raise InputError(f"Data folder '{uri}' cannot be read; ask for read permission on {path.absolute()}.") from None
    return path.resolve()


def place_to_read(uri: str) -> Path | None:
    """Return the local folder or file that a process needs to read the data, for example to mount it in a container;
    None for data in S3. For a table, which names files beside it, that is its folder."""
    if kind := kind_by_scheme(uri):
        return kind.place(Source(uri))
    path = _local_path(uri) if is_local(uri) else None
    if path is None or path.is_dir() or not _is_data_file(path.name):
        return path and path.absolute()
    source = Source(path.name, path=path.absolute())
    return kind_of(source).place(source)


@contextmanager
def listed(
    uri: str,
    kind: Modality,
    labels: Labels = "required",
    scratch: Path | None = None,
    *,
    given: Section | None = None,
    task: Asked = "single_label",
) -> Iterator[Listing]:
    """List the files that `uri` names; they are readable inside the context.

    `scratch` is a folder for unpacked files; default: the system's folder for temporary files. `given` is the
    modality's `input` by which samples are read. Where `task` is auto, labels are taken for what they look like.

    Raises:
        InputError: it cannot be reached, is damaged, is refused as a whole, or cannot be a data set.
        HeadstartError: S3 fails repeatedly.
    """
    with ExitStack() as resources, _reached(uri) as source:
        wanted = Wanted(kind, labels, resources, scratch, given)
        if labels == "numbers":
            yield with_numbers(kind_of(source).list(source, wanted))
        elif labels == "several":
            yield with_several(kind_of(source).list(source, wanted))
        elif labels == "none" or task != "auto":
            yield kind_of(source).list(source, wanted)
        else:
            yield _as_it_looks(kind_of(source), source, wanted)


def _as_it_looks(kind: Kind, source: Source, wanted: Wanted) -> Listing:
    """The listing with its labels taken for what they look like."""
    unclassed: InputError | None = None
    try:
        listing = kind.list(source, wanted)
    except InputError as error:
        # A number, or a set of labels, that no test sample has is no class that lacks one.
        listing, unclassed = kind.list(source, replace(wanted, labels="several")), error
    task, looks = task_of(listing)
    if task == SINGLE_LABEL:
        if unclassed:
            raise unclassed
        return replace(listing, looks=looks)
    return replace(with_numbers(listing) if task == REGRESSION else with_several(listing), looks=looks)


def fingerprint(uri: str) -> str | None:
    """Return a value that changes whenever the data does, without reading samples; None if it cannot be reached.

    "stat:<hex>" is a digest of the names, sizes and modification times of all files below `uri`, "etag:<hex>" of the
    names, sizes and ETags of all objects. For a table, the files that its rows name are included.
    """
    try:
        if s3.is_s3(uri):
            return _remote_fingerprint(uri)
        if kind := kind_by_scheme(uri):
            root = kind.place(Source(uri))
            return _digest(_states(root)) if root and root.is_dir() else None
        path = local_folder(uri)
        if path.is_dir():
            return _digest(_states(path))
        source = Source(str(path), path=path)
        return _digest([_state(path, path.parent), *kind_of(source).named_states(source)])
    except (HeadstartError, OSError):
        return None


def has_no_labels(uri: str, *, modality_name: str = "image") -> bool:
    """Return whether `uri` names a folder with samples and no folders, or a table without labels. Data that would have
    to be fetched or unpacked for that counts as labelled until it is prepared.

    Raises:
        InputError: it cannot be reached.
    """
    if kind_by_scheme(uri) or (s3.is_s3(uri) and _is_data_file(uri)):
        return False
    with _reached(uri) as source:
        return kind_of(source).is_unlabelled(source, modality(modality_name).extensions)


def check(
    uri: str,
    *,
    modality_name: str = "image",
    labels: Labels = "required",
    given: Mapping[str, Any] | None = None,
    task: Asked = "auto",
) -> Summary:
    """Check whether `uri` can become a data set, decoding only a few samples of each class.

    `given` are values of the modality's `input`, by which they are decoded as far as the modality's `probe` asks.
    Unreadable files in a valid class are part of the summary.

    Raises:
        InputError: unknown scheme, no folder, fewer than two classes, or a class that is empty, has a single sample, or
            has no readable one; or labels cannot be those of the task.
    """
    kind = modality(modality_name)
    probe = kind.probe(given or {})
    with listed(uri, kind, labels, given=probe, task=task) as listing:
        by_class: dict[str, list[File]] = defaultdict(list)
        for file in listing.files:
            by_class[file.label if listing.classes else ""].append(file)
        refused = list(listing.refused)
        for label, files in by_class.items():
            if len(files) < 2:
                raise InputError(f"{place(listing.name, label)} has 1 sample; train and test need at least one each.")
            refused += _probe_class(listing, label, files, kind, probe)
    return Summary(
        samples={label: len(by_class[label]) for label in listing.classes or ("",)},
        splits=listing.splits,
        refused=tuple(refused),
        task=listing.task,
        looks=listing.looks,
    )


@contextmanager
def _reached(uri: str) -> Iterator[Source]:
    """Yield the source that `uri` names; a file is on this machine while the context lasts.

    Raises:
        InputError: it is not data.
    """
    if kind_by_scheme(uri):
        yield Source(uri)
    elif s3.is_s3(uri):
        objects = list(s3.list_contents(uri))
        if [found.uri for found in objects] != [uri]:
            yield Source(uri, tree=RemoteTree(uri, objects))
        elif not _is_data_file(uri):
            raise InputError(f"{uri} is one object; give a prefix, or a {_listed_suffixes()} object.")
        else:
            with cache.fetch(objects[0]) as kept:
                yield Source(uri, path=Path(kept.name))
    else:
        path = local_folder(uri)
        yield Source(str(path), tree=LocalTree(path)) if path.is_dir() else Source(str(path), path=path)


def _probe_class(listing: Listing, label: str, files: list[File], kind: Modality, probe: Section) -> list[Refusal]:
    """Return the unreadable files among a class's first ones.

    Raises:
        InputError: the whole class is unreadable.
    """
    refused: list[Refusal] = []
    for count, file in enumerate(files, start=1):
        try:
            kind.decode(listing.read(file.path), probe)
        except UnreadableSample as error:
            refused.append(Refusal(file.path, str(error)))
        if count >= _PROBES_PER_CLASS and len(refused) < count:
            break
    if len(refused) == len(files):
        raise InputError(
            f"{place(listing.name, label)} has no readable sample ({refused[0].path}: {refused[0].reason}); "
            "replace its files."
        )
    return refused


def _remote_fingerprint(uri: str) -> str:
    objects = list(s3.list_contents(uri))
    lines = [f"{found.uri.removeprefix(uri)}\0{found.size}\0{found.etag}" for found in objects]
    if [found.uri for found in objects] == [uri] and _is_data_file(uri):
        kind = kind_of(Source(uri, path=Path(uri)))
        if kind.names_files:
            with _reached(uri) as source:
                lines += kind.named_states(source)
    return _digest(lines, kind="etag")


def _states(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            yield _state(Path(folder, name), root)


def _state(path: Path, root: Path) -> str:
    state = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
    return f"{path.relative_to(root).as_posix()}\0{state.st_size}\0{state.st_mtime_ns}"


def _digest(lines: "Iterator[str] | list[str]", kind: str = "stat") -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\0".encode("utf-8", "surrogateescape"))
    return f"{kind}:{digest.hexdigest()}"


def _is_data_file(name: str) -> bool:
    return name.lower().endswith(file_suffixes())


def _listed_suffixes() -> str:
    *suffixes, last = file_suffixes()
    return f"{', '.join(suffixes)} or {last}"


def _local_path(uri: str) -> Path | None:
    """Return the path that `uri` may name; None if it is not a path.

    Raises:
        InputError: such a path cannot exist or be reached.
    """
    try:
        if "://" not in uri:
            path = Path(uri).expanduser()
        else:
            parts = urlsplit(uri)
            if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
                return None
            path = Path(unquote(parts.path))
        # Raises for a name that is too long, or a parent folder without permission.
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise InputError(f"Data reference '{shortened(uri)}' cannot be reached ({reason}); correct the path.") from None
    return path
