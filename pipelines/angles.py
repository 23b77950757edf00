"""Rotated digits of MNIST with their angles, for a regression: 0 to 4 as the source and 5 to 9 as the target.

    python -m headstart_pipelines.angles angles

writes angles/source/ and angles/target/, once: pictures, each turned by an angle between -45 and 45 degrees that a seed
draws, and labels.csv with the columns path and label, the angle in degrees. MNIST-5k comes with the extra `demo`.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from headstart.errors import InputError
from headstart.storage.local import new_directory
from headstart_pipelines.demo import mnist_5k

_LARGEST_ANGLE = 45.0
_SIZE = 32
# The least digit of the target.
_FIRST = 5


def main(root: Path) -> None:
    """Write what is missing below `root`.

    Raises:
        InputError: the package with MNIST-5k is not installed.
    """
    images, labels = mnist_5k()
    for seed, (name, chosen) in enumerate({"source": labels < _FIRST, "target": labels >= _FIRST}.items()):
        if not (root / name).exists():
            write_rotated(images[chosen], root / name, seed)
            print(f"wrote {root / name}")


def write_rotated(images: np.ndarray, folder: Path, seed: int) -> None:
    """Write uint8 images (N, H, W) as <number>.png of 32 by 32 pixels, rotated, and labels.csv, whole or not at all."""
    from PIL import Image

    angles = np.random.default_rng(seed).uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE, len(images)).round(1)
    with new_directory(folder) as draft:
        for number, (image, angle) in enumerate(zip(images, angles.tolist(), strict=True)):
            larger = Image.fromarray(image).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
            larger.rotate(angle, Image.Resampling.BICUBIC).save(draft / f"{number:04d}.png")
        with (draft / "labels.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label"])
            rows.writerows((f"{number:04d}.png", angle) for number, angle in enumerate(angles.tolist()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m headstart_pipelines.angles OUT")
    try:
        main(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))
