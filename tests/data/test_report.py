"""The page of a prepared data set says how its pictures came and what was made of them."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data.dataset import Dataset
from headstart.data.report import Contents, render_report
from headstart.modalities import modality
from headstart.modalities.image.dimensions import Dimensions
from headstart.modalities.image.section import ImageInput

Pack = Callable[..., Dataset]


def page(dimensions: list[tuple[int, int]], *, size: int = 32, stored_bytes: int = 0, **changes: Any) -> str:
    """The page of samples with these dimensions, all of one class, as text without tags."""
    counts = {"samples": len(dimensions), "class_counts": [len(dimensions)]}
    manifest = {
        "format_version": 1, "modality": "image", "digest": "0", "classes": ["cat"], "shape": [size, size, 1],
        "splits": {"train": counts}, "source": {"uri": "pictures", "given_splits": []}, "notes": [],
        "settings": {"split": {"train": 1.0}, "labels_per_class": None, "seed": 0},
    } | changes  # fmt: skip
    contents = Contents(
        train_samples=np.zeros((1, size, size, 1), np.uint8),
        train_labels=["cat"],
        facts=[{"width": width, "height": height} for width, height in dimensions],
        stored_bytes=stored_bytes,
    )
    html = render_report(manifest, contents)
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


@pytest.mark.parametrize(
    ("dimension", "sentence"),
    [
        ((32, 32), "Each has 32 × 32 pixels. It is stored as it is."),
        ((28, 28), "Each has 28 × 28 pixels. It is enlarged to 32 × 32."),
        (
            (640, 480),
            "Each has 640 × 480 pixels. The centred square is kept, which drops 25.0% of the area. It is shrunk to "
            "32 × 32.",
        ),
    ],
)
def test_pictures_of_one_size_are_a_sentence(dimension: tuple[int, int], sentence: str) -> None:
    text = page([dimension] * 5)
    assert sentence in text
    assert "Shorter side" not in text


def test_what_is_enlarged_and_what_is_lost_is_said() -> None:
    text = page([(16, 24), (64, 32), (40, 40), (400, 100)])
    assert "From 16 to 100 pixels, median 36. 25.0% are smaller than the 32 pixels that are stored: enlarged" in text
    # 1/3, 1/2, 0 and 3/4 of the areas lie outside of the squares.
    assert "the median picture loses 41.7% of its area" in text
    assert "From 0.67 to 4.00, median 1.50" in text


@pytest.mark.parametrize(
    ("dimensions", "sentence"),
    [
        ([(40, 50), (50, 40)], "40 pixels in all pictures, which are shrunk to 32."),
        ([(20, 30), (30, 20)], "20 pixels in all pictures, which are enlarged to 32."),
        ([(32, 64), (64, 32)], "32 pixels in all pictures, which are stored with 32."),
        ([(40, 40), (50, 50)], "1.00 in all pictures. They are square: nothing of them is lost."),
        ([(40, 80), (50, 100)], "0.50 in all pictures. The centred square is kept, which drops 50.0% of their area."),
        ([(40, 50), (50, 50)], "None is smaller than the 32 pixels that are stored."),
    ],
)
def test_what_all_pictures_share_is_said_in_place_of_a_chart(dimensions: list[tuple[int, int]], sentence: str) -> None:
    assert sentence in page(dimensions)


def test_the_store_and_its_size_are_stated() -> None:
    assert "raw pixels, 12.3 MB on disk" in page([(8, 8)], stored_bytes=12_345_678)
    assert "JPEG, 1.5 kB on disk" in page([(8, 8)], stored_bytes=1500, store="jpeg")
    assert "JPEG, 2 TB on disk" in page([(8, 8)], stored_bytes=2 * 10**12, store="jpeg")


SIZES = {
    "photos": [(300 + 37 * n % 500, 200 + 53 * n % 700) for n in range(1000)],
    "thumbnails": [(20 + n % 9, 20 + n % 7) for n in range(100)],
    "all much larger than what is stored": [(4000 + n, 3000 + n) for n in range(50)],
    "all smaller than what is stored": [(8 + n % 3, 9) for n in range(50)],
    "a dot and a strip among photos": [(1, 1), (20_000, 10), *[(640, 480 + n) for n in range(98)]],
    "two": [(224, 224), (225, 223)],
}


@pytest.mark.parametrize("stored", [32, 224])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_a_histogram_counts_every_picture_and_parts_at_what_is_stored(
    sizes: list[tuple[int, int]], stored: int
) -> None:
    found = Dimensions.of(sizes, stored)
    assert found.sides
    assert found.ratios
    shorter = np.array([min(size) for size in sizes])
    for bar in found.sides.bars:
        assert bar.count == ((shorter >= bar.low) & (shorter <= bar.high)).sum()
        assert bar.short == (bar.high < stored)
        assert bar.short == (bar.left + bar.width <= found.sides.mark + 0.1)
    for histogram in (found.sides, found.ratios):
        assert sum(bar.count for bar in histogram.bars) == len(sizes)
        assert all(bar.left >= 0 and bar.left + bar.width < 100.1 and 0 < bar.height <= 100 for bar in histogram.bars)
        assert 0 < histogram.mark < 100
        assert len(histogram.ticks) >= 2
        places = [place for place, _ in histogram.ticks]
        assert min(np.diff(places)) >= 10, "labels do not cover each other"


def test_a_square_stands_in_the_middle_of_its_bar() -> None:
    found = Dimensions.of([(50, 50), (100, 100), (40, 50)], 32).ratios
    assert found
    square = max(found.bars, key=lambda bar: bar.count)
    assert square.left + square.width / 2 == pytest.approx(found.mark, abs=0.1)


def test_a_prepared_folder_is_reported_with_the_sizes_at_which_its_pictures_are_shown(folder: Path, pack: Pack) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 40), dtype=np.uint8)).save(
        folder / "cat" / "turned.jpg", exif=turned
    )
    dataset = pack(folder)
    text = (dataset.path / "report.html").read_text()
    # All others are 8 by 8; this one is 16 wide and 40 high.
    assert "From 0.40 to 1.00, median 1.00" in text
    assert "From 8 to 16 pixels" in text
    stored = sum((dataset.path / f"{split}.npy").stat().st_size for split in ("train", "val", "test"))
    assert f"raw pixels, {stored / 1000:.3g} kB on disk" in text


def test_many_pictures_of_another_shape_than_a_square_are_noted_where_the_crop_costs_them_much() -> None:
    image = modality("image")
    facts = [{"width": 100, "height": 100}] * 8 + [{"width": 100, "height": 60}] * 2

    (note,) = image.notes(facts, ImageInput(size=32))

    assert note.startswith("20% of the pictures lose over a quarter of their area to the centred crop")
    assert image.notes(facts, ImageInput(size=32, fit="pad")) == []
    assert image.notes(facts[:9] * 2, ImageInput(size=32)) != []
    assert image.notes([*facts[:8] * 2, *facts[9:]], ImageInput(size=32)) == []
