"""Small image folders, written as real files, and the packed data sets made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart_pipelines.demo import digits, write_folder


def _write_picture(path: Path, content: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(content).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def kept_both_ways(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Dataset]]:
    """Packs so many pictures of 0, 1 and 2, as pixels and as JPEG."""

    def kept(count: int) -> dict[str, Dataset]:
        root = tmp_path_factory.mktemp("stores")
        images, labels = digits()
        chosen = np.flatnonzero(labels < 3)[:count]
        write_folder(images[chosen], labels[chosen], root / "pictures")
        shares = {"train": 0.5, "val": 0.2, "test": 0.3}
        return {
            store: prepare(
                Data.of({"uri": str(root / "pictures"), "size": 16, "split": shares, "store": store}), root / store
            )
            for store in ("raw", "jpeg")
        }

    return kept


@pytest.fixture
def picture() -> Callable[[Path, int], Path]:
    """Writes a grey PNG of 8 by 8 pixels whose bytes are a function of a number."""
    return _write_picture


@pytest.fixture
def fill() -> Callable[..., Path]:
    """Writes `counts[folder]` different pictures into each folder below a root, numbered from `start`."""

    def write(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
        for folder, count in counts.items():
            for index in range(start, start + count):
                _write_picture(root / folder / f"{index:04}.png", int.from_bytes(f"{folder}/{index}".encode(), "big"))
        return root

    return write


@pytest.fixture
def folder(tmp_path: Path, fill: Callable[..., Path]) -> Path:
    """Two classes of 12 pictures each."""
    return fill(tmp_path / "pictures", {"cat": 12, "dog": 12})


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Dataset]:
    """`prepare` with small samples, into a place that the next call replaces."""

    def run(root: Path, **options: Any) -> Dataset:
        options = {"size": 8, "split": {"train": 0.5, "val": 0.2, "test": 0.3}, **options}
        destination = options.pop("destination", tmp_path / "packed")
        others = {key: options.pop(key) for key in ("modality", "seed", "parts") if key in options}
        if options.get("labels") in ("optional", "required"):
            others["labels"] = options.pop("labels")
        return prepare(Data.of({"uri": str(root), **options}), destination, **others)

    return run


@pytest.fixture
def splits_of() -> Callable[[Dataset], dict[str, str]]:
    """The split of each path of a packed data set, as its index says."""

    def read(dataset: Dataset) -> dict[str, str]:
        return {row["path"]: row["split"] for row in pq.read_table(dataset.path / "index.parquet").to_pylist()}

    return read


@pytest.fixture
def quarantine_of() -> Callable[[Dataset], dict[str, str]]:
    """The reason by path of everything that a packed data set refused."""

    def read(dataset: Dataset) -> dict[str, str]:
        lines = (dataset.path / "quarantine.jsonl").read_text().splitlines()
        return {entry["path"]: entry["reason"] for entry in map(json.loads, lines)}

    return read
