"""Training and validation samples as one training split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.joined import JoinedSamples
from headstart.data.labelled import LabelledDataset

Pack = Callable[..., Dataset]


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_all_labels_are_the_training_and_then_the_validation_samples(folder: Path, pack: Pack, store: str) -> None:
    dataset = pack(folder, store=store)
    train, val = dataset.split("train"), dataset.split("val")
    labelled = LabelledDataset(dataset)
    split = labelled.split("train")
    assert np.array_equal(split.samples[:], np.concatenate([train.samples[:], val.samples[:]]))
    for key in ("labels", "ids", "paths"):
        assert getattr(split, key).tolist() == [*getattr(train, key), *getattr(val, key)]
    assert labelled.counts == {"train": len(split.labels), "val": 0, "test": dataset.counts["test"]}
    assert len(labelled.split("val").labels) == len(labelled.samples("val")) == 0
    assert labelled.split("test").ids.tolist() == dataset.split("test").ids.tolist()


def test_work_on_all_labels_is_not_mistaken_for_work_on_the_training_split(folder: Path, pack: Pack) -> None:
    dataset = pack(folder)
    labelled = LabelledDataset(dataset)
    assert labelled.split_digest("train") != dataset.split_digest("train")
    assert labelled.split_digest("val") != dataset.split_digest("val")
    assert labelled.split_digest("test") == dataset.split_digest("test")
    # What a model has learned from, and is never judged on, is still the data set's training and validation samples.
    assert labelled.digests == dataset.digests


@pytest.mark.parametrize(
    "rows", [3, -1, slice(2, 9), slice(None, None, -2), np.array([8, 0, 4, 4]), np.arange(10) % 3 == 0]
)
def test_joined_samples_are_read_as_one_array_is(rows: object) -> None:
    together = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    joined = JoinedSamples([together[:4], together[4:4], together[4:]])
    assert np.array_equal(joined[rows], together[rows])
    assert joined.shape == together.shape
    assert np.array_equal(np.asarray(joined), together)
