"""What a source knows of a target: pictures of MNIST under the same and under other files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.judging import overlap as module
from headstart.judging.overlap import overlap
from headstart.models.sources import Background
from headstart_pipelines.demo import mnist_5k

SPLIT = {"train": 0.5, "val": 0.25, "test": 0.25}


@pytest.fixture(scope="module")
def data(once):
    """Packed: `origin`, 40 pictures; `copies`, half of them saved as other files and as many that are new; `new`."""

    def make(root: Path) -> None:
        images, labels = mnist_5k()
        chosen = np.concatenate([np.flatnonzero(labels == digit)[:60] for digit in (4, 7)])
        images, labels = images[chosen].reshape(2, 60, 28, 28), (4, 7)
        for label, pictures in zip(labels, images, strict=True):
            for number in range(20):
                write(pictures[number], root / "origin" / str(label) / f"{number}.png")
                write(pictures[number + 40], root / "new" / str(label) / f"{number}.png")
                # The same pixels in another format, or in other pixels.
                if number < 10:
                    write(pictures[number], root / "copies" / str(label) / f"{number}.bmp")
                    write(pictures[number + 20], root / "copies" / str(label) / f"{number}.png")
        for name in ("origin", "copies", "new"):
            prepare(Data.of({"uri": str(root / name), "size": 32, "split": SPLIT}), root / f"{name}-packed")

    return once("overlap", make)


def write(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def origin(data):
    return Dataset.open(data / "origin-packed")


@pytest.fixture
def target(data):
    return lambda name: Dataset.open(data / f"{name}-packed")


@pytest.fixture
def learned(source, origin):
    """A source that says that it learned `origin`, and what the record knows of it."""
    ids = frozenset(np.concatenate([origin.split(name).ids for name in ("train", "val")]).tolist())
    bundle = replace(source, provenance={**source.provenance, **origin.digests})
    return bundle, Background(learned_from=ids, data=str(origin.path))


def test_test_samples_that_look_like_what_the_source_learned_are_counted(learned, origin, target):
    copies = target("copies")
    learned_pixels = {picture.tobytes() for name in ("train", "val") for picture in origin.split(name).samples}
    expected = sum(picture.tobytes() in learned_pixels for picture in copies.split("test").samples)
    assert expected > 0
    found = overlap(*learned, copies)
    assert (found.samples, found.look_alikes, found.leaks) == ({"train": 0, "val": 0, "test": 0}, expected, True)


def test_pictures_kept_as_jpeg_look_like_those_kept_as_pixels(learned, target, data, tmp_path):
    bundle, known = learned
    jpeg = prepare(
        Data.of({"uri": str(data / "origin"), "size": 32, "split": SPLIT, "store": "jpeg"}), tmp_path / "jpeg"
    )
    found = overlap(bundle, replace(known, data=str(jpeg.path)), target("copies"))
    assert found.look_alikes == overlap(*learned, target("copies")).look_alikes > 0


def test_other_pictures_of_the_same_things_do_not_count(learned, target):
    found = overlap(*learned, target("new"))
    assert (found.look_alikes, found.leaks) == (0, False)


def test_the_same_files_count_as_samples_and_not_again_as_look_alikes(learned, origin):
    found = overlap(*learned, origin)
    assert found.samples == {**origin.counts, "test": 0}
    bundle, known = learned
    ids = frozenset(origin.split("test").ids.tolist()) | known.learned_from
    found = overlap(bundle, replace(known, learned_from=ids), origin)
    assert (found.samples, found.look_alikes, found.leaks) == (origin.counts, 0, True)


def test_where_the_data_of_a_sources_source_is_not_known_the_numbers_are_the_least(learned, origin):
    bundle, known = learned
    assert overlap(bundle, known, origin).complete
    assert not overlap(bundle, replace(known, complete=False), origin).complete


@pytest.mark.parametrize("place", [None, "s3://bucket/data", "nowhere"])
def test_where_the_sources_data_is_not_at_hand_look_alikes_are_not_known(learned, target, place):
    bundle, known = learned
    found = overlap(bundle, replace(known, data=place), target("copies"))
    assert (found.look_alikes, found.leaks) == (None, False)


def test_data_that_lies_where_the_sources_lay_and_is_other_data_is_not_compared(learned, target, data):
    bundle, known = learned
    found = overlap(bundle, replace(known, data=str(data / "copies-packed")), target("copies"))
    assert found.look_alikes is None


def test_too_many_pictures_are_not_compared(learned, target, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SAMPLES", 10)
    assert overlap(*learned, target("copies")).look_alikes is None


def test_of_what_nothing_is_known_nothing_is_said(source, target):
    found = overlap(source, Background(), target("new"))
    assert (found.samples, found.look_alikes, found.leaks) == (None, None, False)
