"""Pictures of discs on a noisy ground, and their diameters: a number that a network can learn in seconds."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16


def write_discs(folder: Path, count: int, *, seed: int, noise: float = 10.0, inverted: bool = False) -> Path:
    """Write `count` pictures and a table of their diameters in pixels; return the table's path."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        diameter = round(float(generator.uniform(3, 13)), 2)
        centre = generator.uniform(6.5, 8.5, size=2)
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (diameter / 2) ** 2
        pixels = np.where(inside, 230.0, 30.0) + generator.normal(0, noise, (SIZE, SIZE))
        pixels = np.clip(255 - pixels if inverted else pixels, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        rows.append((f"{number:03}.png", diameter))
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(rows)
    return table
