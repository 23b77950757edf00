"""Stored samples as they reach a training: in the order that it asks for, whether or not they were read ahead."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.data.dataset import Samples
from headstart.data.encoded import EncodedSamples, write_encoded
from headstart.errors import InputError
from headstart.modalities import modality
from headstart.modalities.image.jpeg import JPEG
from headstart.training.batches import epoch_batches
from headstart.training.loader import Loader

COUNT, BATCH_SIZE = 12, 4
CPU = torch.device("cpu")
IMAGE = modality("image")


def order(epoch: int) -> list[np.ndarray]:
    return epoch_batches(COUNT, BATCH_SIZE, seed=0, epoch=epoch)


class Watched(EncodedSamples):
    """Samples kept as JPEG that remember which were read, each time, and whether by the thread that asks for them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.read: list[list[int]] = []
        self.asked_for: list[bool] = []

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.read.append(rows.tolist())
        self.asked_for.append(threading.current_thread() is threading.main_thread())
        return super().__getitem__(rows)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    write_encoded(tmp_path / "pictures.jpegs", pictures, JPEG)
    return Watched(tmp_path / "pictures.jpegs", pictures.shape, JPEG)


@pytest.fixture
def pixels(watched: Watched) -> np.ndarray:
    """What the samples are."""
    return EncodedSamples(watched._path, watched.shape, JPEG)[:]


@pytest.fixture
def stored(watched: Watched, pixels: np.ndarray, tmp_path: Path) -> dict[str, Samples]:
    """The same pixels in each form of a store."""
    np.save(tmp_path / "pictures.npy", pixels)
    return {"raw": np.load(tmp_path / "pictures.npy", mmap_mode="r"), "jpeg": watched}


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait()
    assert set(threading.enumerate()) <= before


def wait() -> None:
    """Until what is being read is read."""
    for thread in threading.enumerate():
        if thread.name.startswith("read-ahead"):
            thread.join()


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_samples_come_as_they_are_stored_in_the_order_that_is_asked_for(stored, pixels, store):
    loader = Loader(stored[store], IMAGE, CPU, order)
    for epoch in (1, 2):
        for chosen in order(epoch):
            samples = loader.read(chosen, epoch)
            assert samples.dtype == torch.uint8
            assert np.array_equal(samples.numpy(), pixels[chosen])


def test_while_samples_are_in_use_those_that_follow_are_read_and_each_is_read_once(watched):
    loader, batches = Loader(watched, IMAGE, CPU, order), order(1)
    loader.read(batches[0], 1)
    wait()
    assert watched.read == [batches[0].tolist(), batches[1].tolist()]
    loader.read(batches[1], 1)
    loader.read(batches[2], 1)
    assert watched.read == [batch.tolist() for batch in batches]
    assert watched.asked_for == [True, False, False]


@pytest.mark.parametrize(
    "asked",
    [
        lambda batches: [batches[1], batches[0], batches[2]],
        lambda batches: [batches[0], batches[0], batches[1][::-1], batches[1]],
        lambda batches: [batches[0], np.array([7, 7, 1]), np.arange(COUNT), batches[2]],
    ],
    ids=["exchanged", "again and backwards", "others"],
)
def test_what_nobody_expected_comes_as_well(watched, pixels, asked: Callable[[list[np.ndarray]], list[np.ndarray]]):
    loader = Loader(watched, IMAGE, CPU, order)
    for chosen in asked(order(1)):
        assert np.array_equal(loader.read(chosen, 1).numpy(), pixels[chosen])


def test_a_training_that_goes_on_within_an_epoch_has_read_ahead_from_its_second_step_on(watched):
    loader, batches = Loader(watched, IMAGE, CPU, order), order(3)
    for chosen in batches[1:]:
        loader.read(chosen, 3)
    assert watched.asked_for == [True, False]


def test_what_goes_wrong_is_raised_when_the_samples_are_asked_for_and_again_when_they_are_asked_for_again(watched):
    batches = order(1)
    content = bytearray(watched._path.read_bytes())
    damaged = int(batches[1][2])
    content[watched._bounds[damaged] + 200] ^= 1
    watched._path.write_bytes(content)
    loader = Loader(Watched(watched._path, watched.shape, JPEG), IMAGE, CPU, order)
    loader.read(batches[0], 1)
    wait()
    for _ in range(2):
        with pytest.raises(InputError, match=f"Sample {damaged} of .*pictures.jpegs is damaged"):
            loader.read(batches[1], 1)
    assert len(loader.read(batches[2], 1)) == BATCH_SIZE


def test_what_goes_wrong_with_samples_that_nobody_asks_for_troubles_nobody(watched):
    loader = Loader(watched, IMAGE, CPU, lambda _: [np.array([0, 1]), np.array([COUNT])])
    assert len(loader.read(np.array([0, 1]), 1)) == 2
    wait()
    assert len(loader.read(np.array([2]), 1)) == 1
