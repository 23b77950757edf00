"""Data sets that earlier versions packed are read, and what is packed now is the same to the bit."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from headstart.data.dataset import SPLITS, Dataset

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_data_set_of_version_1_is_read(store: str) -> None:
    dataset = Dataset.open(FORMATS / f"version-1-{store}")

    assert dataset.digest == "sha256:23ec278d4436333b3a87badb401cfa6299ff92d8d15f456852a867fb637a971d"
    assert (dataset.classes, dataset.shape, dataset.store) == (("cat", "dog"), (8, 8, 1), store)
    assert dataset.counts == {"train": 6, "val": 2, "test": 4}
    for name in SPLITS:
        split = dataset.split(name)
        assert np.asarray(split.samples).shape == (dataset.counts[name], 8, 8, 1)
        assert [dataset.classes[label] for label in split.labels] == [path.split("/")[0] for path in split.paths]


def test_the_same_pictures_are_packed_to_the_same_bits(
    pack: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FORMATS)
    before, now = FORMATS / "version-1-raw", pack(Path("pictures"))

    facts = [json.loads((path / "manifest.json").read_text()) for path in (before, now.path)]
    for each in facts:
        # Parquet's own bytes follow the version of pyarrow; what it holds is compared below.
        del each["files"]["index.parquet"]
        # Then there were pictures alone, and the manifest did not say what was read of them.
        each.pop("input", None)
        del each["files"]["manifest.json"]
    assert facts[0] == facts[1]
    assert pq.read_table(now.path / "index.parquet") == pq.read_table(before / "index.parquet")
    for name in ("train.npy", "val.npy", "test.npy", "quarantine.jsonl"):
        assert (now.path / name).read_bytes() == (before / name).read_bytes()
