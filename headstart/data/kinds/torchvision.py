"""torchvision's data sets, `torchvision://NAME`: read from a local folder and downloaded where allowed.

The folder is HEADSTART_DATASETS, else `datasets` next to torch's hub (TORCH_HOME). HEADSTART_DOWNLOAD=never forbids
downloads.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.arrays import encoded
from headstart.data.kind import KINDS, Kind, Source, Wanted
from headstart.data.listing import File, Labels, Listing, check_classes, natural
from headstart.data.tree import LocalTree
from headstart.errors import HeadstartError, InputError

FOLDER_VARIABLE = "HEADSTART_DATASETS"
DOWNLOAD_VARIABLE = "HEADSTART_DOWNLOAD"

_PARTS = {"train": {"split": "train"}, "test": {"split": "test"}}
_PARTS_WITH_VAL = {**_PARTS, "val": {"split": "val"}}

# Arguments of torchvision's constructor for each split; "" stands for a data set without given splits. Data sets in
# `_FOLDERS`, the folders that torchvision uses, are read by our own readers instead of its pickles.
_SETS: dict[str, dict[str, dict[str, Any]]] = {
    **{name: {"train": {"train": True}, "test": {"train": False}}
       for name in ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "USPS")},
    **dict.fromkeys(("SVHN", "STL10", "Food101", "GTSRB", "StanfordCars"), _PARTS),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), _PARTS_WITH_VAL),
    "Country211": {**_PARTS, "val": {"split": "valid"}},
    "Imagenette": {"train": {"split": "train"}, "test": {"split": "val"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    **{name: {"": {}} for name in ("Caltech101", "Caltech256", "EuroSAT", "SEMEION")},
}  # fmt: skip
_FOLDERS = {
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
    "KMNIST": "KMNIST/raw",
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
}


class Torchvision(Kind):
    scheme = "torchvision://"

    def list(self, source: Source, wanted: Wanted) -> Listing:
        """List the pictures of a torchvision data set, with its splits.

        Raises:
            InputError: the name is unknown, or the data is missing and may not or cannot be downloaded.
        """
        name = _name(source.name)
        if name not in _FOLDERS:
            sets = {split: _made(name, arguments) for split, arguments in _SETS[name].items()}
            return _list_items(source.name, sets, wanted.labels)
        folder = datasets_folder() / _FOLDERS[name]
        if not folder.is_dir():
            _download(name, lambda root: _fetch_files(name, root))
        files = Source(source.name, tree=LocalTree(folder, source.name))
        return KINDS["cifar" if name.startswith("CIFAR") else "idx"].list(files, wanted)

    def place(self, source: Source) -> Path | None:
        _name(source.name)
        return datasets_folder()


def is_published(uri: str) -> bool:
    """Return whether a reference names a torchvision data set."""
    return uri.startswith(KIND.scheme)


def datasets_folder() -> Path:
    """Return the folder of torchvision's data sets on this machine."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).absolute()
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    return Path(home).expanduser().absolute() / "datasets"


def _name(uri: str) -> str:
    """Return the name of a data set.

    Raises:
        InputError: it is unknown; the message lists the known ones.
    """
    name = uri.removeprefix(KIND.scheme)
    if name not in _SETS:
        raise InputError(f"{uri} is not a data set of torchvision that is read; choose one of: {', '.join(_SETS)}.")
    return name


def _made(name: str, arguments: dict[str, Any]) -> Any:
    """Return torchvision's data set object, downloading the data if it is missing."""
    import torchvision

    kind = getattr(torchvision.datasets, name)
    try:
        return kind(str(datasets_folder()), **arguments)
    except (RuntimeError, FileNotFoundError, ValueError):
        return _download(name, lambda root: kind(str(root), download=True, **arguments))
    except ModuleNotFoundError as error:
        raise InputError(f"torchvision://{name} needs the package {error.name}; install it.") from error


def _fetch_files(name: str, root: Path) -> None:
    """Download the files by torchvision, which compares each with its known digest."""
    import torchvision

    kind = getattr(torchvision.datasets, name)
    if name.startswith("CIFAR"):
        # The constructor would unpickle them.
        torchvision.datasets.utils.download_and_extract_archive(
            kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5
        )
    else:
        kind(str(root), download=True)


def _download(name: str, fetch: Callable[[Path], Any]) -> Any:
    root = datasets_folder()
    if os.environ.get(DOWNLOAD_VARIABLE) == "never":
        raise InputError(
            f"torchvision://{name} is not in {root}, and {DOWNLOAD_VARIABLE} forbids to download it; put it there, or "
            f"set {FOLDER_VARIABLE}."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        return fetch(root)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"torchvision://{name} cannot be downloaded to {root} ({reason}); put it there, or set {FOLDER_VARIABLE}."
        ) from error


def _list_items(uri: str, sets: dict[str, Any], labels: Labels) -> Listing:
    files: list[File] = []
    for split, data in sets.items():
        for number, label in enumerate(_labels_of(data) if labels != "none" else [""] * len(data)):
            files.append(File(f"{split or 'all'}/{number:07}", label, split or None))
    present = {file.label for file in files} - {""}
    listing = Listing(
        name=uri,
        classes=natural(present),
        splits=tuple(split for split in ("train", "val", "test") if split in sets),
        files=tuple(sorted(files, key=lambda file: file.path)),
        refused=(),
        read=lambda path: _content(sets, path),
    )
    if labels != "none":
        check_classes(listing, labels)
    return listing


def _labels_of(data: Any) -> Iterator[str]:
    """Yield the class names of all pictures; none is decoded if torchvision provides the labels."""
    names = getattr(data, "classes", None) or getattr(data, "categories", None)
    held = next((getattr(data, key) for key in ("_labels", "labels", "targets", "y") if hasattr(data, key)), None)
    if held is None and hasattr(data, "_samples"):
        held = [label for _, label in data._samples]
    for number in held if held is not None else (data[index][1] for index in range(len(data))):
        name = names[int(number)] if names else int(number)
        # Imagenette gives all synonyms of a class.
        yield str(name[0] if isinstance(name, tuple) else name)


def _content(sets: dict[str, Any], path: str) -> bytes:
    split, _, number = path.partition("/")
    try:
        image, _ = sets["" if split == "all" else split][int(number)]
    except (OSError, ValueError) as error:
        raise HeadstartError(f"torchvision cannot read its picture {path} ({error}); download it again.") from error
    return encoded(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))


KIND = Torchvision()
