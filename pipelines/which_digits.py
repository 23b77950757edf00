"""Pictures of several digits, for several labels each: those of MNIST as the source, another scanner's as the target.

    python -m headstart_pipelines.which_digits which_digits

writes which_digits/source/ and which_digits/target/, once: pictures of 32 by 32 pixels with none to three digits in the
corners, and labels.csv with the columns path, label and split. A label reads 3;7, or none. No digit of a test
picture is in a training picture. MNIST-5k comes with the extra `demo`, the target's digits with scikit-learn.
"""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from headstart.data.several import NONE
from headstart.data.task import SEPARATOR
from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines.demo import digits, mnist_5k

_SIZE, _CELL = 32, 16
_PICTURES = {"source": {"train": 4000, "test": 800}, "target": {"train": 1000, "test": 800}}
# The share of the digits that training pictures are composed of.
_LEARNED = 0.6
# Values below this are the paper's.
_GRAIN = 32
# How often a picture has none to three digits.
_SHARES = (0.1, 0.3, 0.3, 0.3)


def main(root: Path) -> None:
    """Write what is missing below `root`.

    Raises:
        InputError: the package with MNIST-5k is not installed.
    """
    for seed, (name, load) in enumerate({"source": mnist_5k, "target": digits}.items()):
        if not (root / name).exists():
            write_pictures(*load(), root / name, _PICTURES[name], seed)
            print(f"wrote {root / name}")


def write_pictures(
    images: np.ndarray, labels: np.ndarray, folder: Path, pictures: Mapping[str, int], seed: int
) -> None:
    """Write <split>-<number>.png, so many `pictures` of each split that are composed of uint8 images (N, H, W) of
    digits int (N,), and labels.csv, whole or not at all."""
    from PIL import Image

    generator, rows = np.random.default_rng(seed), []
    order = generator.permutation(len(images))
    first = round(len(images) * _LEARNED)
    with new_directory(folder) as draft:
        for split, pool in {"train": order[:first], "test": order[first:]}.items():
            for number in range(pictures[split]):
                chosen = generator.choice(pool, generator.choice(len(_SHARES), p=_SHARES), replace=False)
                path = f"{split}-{number:04d}.png"
                Image.fromarray(_composed(images[chosen], generator)).save(draft / path)
                rows.append((path, SEPARATOR.join(map(str, sorted(set(labels[chosen].tolist())))) or NONE, split))
        with (draft / "labels.csv").open("w", newline="") as file:
            written = csv.writer(file)
            written.writerow(["path", "label", "split"])
            written.writerows(rows)


def _composed(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A picture with each of the images in another corner, of a size and place there that vary, on a paper's grain."""
    from PIL import Image

    # Empty pictures would all be one.
    picture = generator.integers(0, _GRAIN, (_SIZE, _SIZE), dtype=np.uint8)
    corners = generator.permutation(4)[: len(images)]
    for image, corner in zip(images, corners.tolist(), strict=True):
        size = int(generator.integers(_CELL - 4, _CELL + 1))
        top, left = (
            _CELL * each + int(generator.integers(0, _CELL - size + 1)) for each in divmod(corner, _SIZE // _CELL)
        )
        smaller = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        place = picture[top : top + size, left : left + size]
        np.maximum(place, np.asarray(smaller), out=place)
    return picture


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m headstart_pipelines.which_digits OUT")
    try:
        main(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))
