"""NumPy .npz files of pictures, under any of the usual array names, read without pickles.

    x_train, y_train, x_test, y_test           as Keras publishes data sets
    train_images, train_labels, val_images, …  as MedMNIST does
    images, labels                             one set that is split by content; also x or X, and y or targets

`groups` (or `train_groups`, …) keeps pictures of one scene or patient in one split; `classes` gives the names by label.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.data.arrays import Pictures, list_arrays, on_disk
from headstart.data.kind import Kind, Source, Wanted
from headstart.data.kinds.archive import check_directory
from headstart.data.limits import MAX_ENTRIES, MAX_RATIO, allowed
from headstart.data.listing import Labels, Listing
from headstart.data.tree import one_line
from headstart.errors import InputError

_SHOWN = 10

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_KINDS = {"pixels": ("images", "x", "X", "data"), "labels": ("labels", "y", "targets"), "groups": ("groups",)}


class Npz(Kind):
    suffixes = (".npz",)

    def list(self, source: Source, wanted: Wanted) -> Listing:
        assert source.path is not None  # noqa: S101 - it claims files only
        return _list(source.path, source.name, wanted.labels, wanted.scratch)


def _list(path: Path, name: str, labels: Labels, scratch: Path | None = None) -> Listing:
    """List the pictures of the .npz file at `path`, called `name` in messages.

    Raises:
        InputError: it is damaged, a decompression bomb, or holds pickles or anything other than pictures.
    """
    try:
        with path.open("rb") as file:
            check_directory(file, path.stat().st_size, name)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if sum(member.file_size for member in members.values()) > allowed(path.stat().st_size):
                raise InputError(f"{name} expands to more than {MAX_RATIO} times its size, as a bomb does.")

            def array(key: str) -> np.ndarray:
                return _array(archive, members[key], f"{name}, array '{key}'", scratch)

            named = _named(set(members))
            if not named:
                shown = ", ".join(sorted(members)[:_SHOWN]) + (" …" if len(members) > _SHOWN else "")
                raise InputError(
                    f"{name} has the arrays {shown or 'none'}; name them images and labels, or "
                    "x_train, y_train, x_test and y_test."
                )
            classes = _texts(array("classes"), name) if "classes" in members else None
            parts = [
                Pictures(
                    split,
                    array(keys["pixels"]),
                    _labels(array(keys["labels"]), classes, name) if "labels" in keys and labels != "none" else None,
                    _texts(array(keys["groups"]), name) if "groups" in keys else None,
                )
                for split, keys in named.items()
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(
            f"{name} is not a whole .npz file ({one_line(error)}); save it again with numpy.savez."
        ) from error
    return list_arrays(name, parts, labels, classes)


def _named(names: set[str]) -> dict[str | None, dict[str, str]]:
    """Return the names of the arrays by split and kind; the split None stands for all pictures."""
    found: dict[str | None, dict[str, str]] = {}
    for prefix, split in _SPLITS.items():
        keys = {
            kind: key for kind, words in _KINDS.items() for word in words
            for key in (f"{prefix}_{word}", f"{word}_{prefix}") if key in names
        }  # fmt: skip
        if "pixels" in keys:
            found[split] = keys
    if "train" in found:
        return {split: found[split] for split in ("train", "val", "test") if split in found}
    keys = {kind: word for kind, words in _KINDS.items() for word in words if word in names}
    return {None: keys} if "pixels" in keys else {}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, scratch: Path | None) -> np.ndarray:
    """Copy an array from the archive to disk and memory-map it."""
    try:
        with archive.open(member) as content:
            version = np.lib.format.read_magic(content)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, kind = read[version](content)
            if kind.hasobject:
                raise InputError(f"{name} holds Python objects, which are not read; save it as numbers or text.")
            count = int(np.prod(shape, dtype=np.float64)) if shape else 1
            if count * kind.itemsize > member.file_size or (shape and shape[0] > MAX_ENTRIES):
                raise InputError(f"{name} announces more than it holds, or too much; save it again.")
            if not count:
                return np.zeros(shape, kind)
            with on_disk(content, count * kind.itemsize, name, scratch) as copy:
                return np.memmap(copy, kind, "r", shape=shape, order="F" if fortran else "C")
    except (ValueError, KeyError, TypeError, SyntaxError, OverflowError, struct.error) as error:
        raise InputError(f"{name} is not an array of numpy ({one_line(error)}); save it again.") from error


def _labels(values: np.ndarray, classes: Sequence[str] | None, name: str) -> list[str]:
    texts = _texts(values, name)
    if classes is None:
        return texts
    if not all(text.isdecimal() and int(text) < len(classes) for text in texts):
        raise InputError(f"{name} has labels that are no index into its array 'classes'; correct one of them.")
    return [classes[int(text)] for text in texts]


def _texts(values: np.ndarray, name: str) -> list[str]:
    """Return labels (N,) or (N, 1), whole numbers or text, as a list of text."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "uiU":
        raise InputError(
            f"{name} has labels of type {values.dtype} and shape {values.shape}; give one whole number or text each."
        )
    return [str(value) for value in values.tolist()]


KIND = Npz()
