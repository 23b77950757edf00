"""Data sets whose samples are kept as JPEG, which are read as those kept as pixels are."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from headstart.data import encoded
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.encoded import EncodedSamples, write_encoded
from headstart.errors import InputError
from headstart.judging.assessment import evaluate
from headstart.judging.contenders import Contender
from headstart.judging.data_efficiency import subset_of
from headstart.judging.diagnostics import diagnose
from headstart.judging.section import Evaluation
from headstart.modalities.image.jpeg import JPEG
from headstart.storage.local import write_json
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining

SHAPE = (30, 48, 64, 3)


@pytest.fixture(scope="module")
def stores(kept_both_ways: Callable[[int], dict[str, Dataset]]) -> dict[str, Dataset]:
    return kept_both_ways(150)


@pytest.fixture
def packed(stores: dict[str, Dataset], tmp_path: Path) -> Path:
    """A copy of the data set that is kept as JPEG, to damage; its manifest has no digests that would tell."""
    packed = Path(shutil.copytree(stores["jpeg"].path, tmp_path / "packed"))
    manifest = {key: value for key, value in stores["jpeg"].manifest.items() if key != "files"}
    write_json(packed / "manifest.json", manifest)
    return packed


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Parts of a photograph."""
    image = load_sample_images().images[0]
    height, width = SHAPE[1:3]
    corners = [(row, column) for row in (0, 150, 300) for column in range(0, 570, 57)]
    return np.stack([image[row : row + height, column : column + width] for row, column in corners])


@pytest.fixture
def samples(photographs: np.ndarray, tmp_path: Path) -> EncodedSamples:
    """These, as they are kept."""
    write_encoded(tmp_path / "photographs.jpegs", photographs, JPEG)
    return EncodedSamples(tmp_path / "photographs.jpegs", SHAPE, JPEG)


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small pictures are decoded in threads, too."""
    monkeypatch.setattr(encoded, "processors", lambda: 3)
    monkeypatch.setattr(encoded, "_THREAD_BYTES", 1)


# What is kept


def test_a_data_set_kept_as_jpeg_is_the_same_but_for_a_small_loss(stores: dict[str, Dataset]) -> None:
    raw, jpeg = stores["raw"], stores["jpeg"]
    assert (raw.store, jpeg.store) == ("raw", "jpeg")
    assert (jpeg.digest, jpeg.digests, jpeg.counts, jpeg.shape) == (raw.digest, raw.digests, raw.counts, raw.shape)
    for name in SPLITS:
        one, other = raw.split(name), jpeg.split(name)
        for column in ("ids", "labels", "paths"):
            assert np.array_equal(getattr(one, column), getattr(other, column))
        assert not (jpeg.path / f"{name}.npy").exists()
        difference = np.abs(np.array(one.samples, dtype=int) - np.array(other.samples))
        assert difference.mean() < 2
        assert difference.max() < 24


def test_photographs_lose_about_one_grey_level_and_most_of_their_size(
    samples: EncodedSamples, photographs: np.ndarray, tmp_path: Path
) -> None:
    difference = np.abs(photographs.astype(int) - np.asarray(samples))
    assert 0 < difference.mean() < 2
    assert (tmp_path / "photographs.jpegs").stat().st_size < photographs.nbytes / 2


def test_grey_pictures_stay_grey(photographs: np.ndarray, tmp_path: Path) -> None:
    grey = photographs[..., :1]
    write_encoded(tmp_path / "grey.jpegs", grey, JPEG)
    found = EncodedSamples(tmp_path / "grey.jpegs", grey.shape, JPEG)[:]
    assert np.abs(grey.astype(int) - found).mean() < 2


def test_pictures_are_taken_a_few_at_a_time(tmp_path: Path) -> None:
    written: list[int] = []
    counting = replace(JPEG, encode=lambda picture: (written.append(1), JPEG.encode(picture))[1])
    ahead = []

    def pictures() -> Iterator[np.ndarray]:
        for number in range(200):
            ahead.append(number - len(written))
            yield np.full((8, 8, 1), number, dtype=np.uint8)

    write_encoded(tmp_path / "many.jpegs", pictures(), counting)
    assert max(ahead) <= 5 * encoded._threads()
    found = EncodedSamples(tmp_path / "many.jpegs", (200, 8, 8, 1), JPEG)
    assert np.array_equal(found[:][:, 0, 0, 0], np.arange(200))


def test_a_split_without_samples_is_empty(tmp_path: Path) -> None:
    write_encoded(tmp_path / "none.jpegs", [], JPEG)
    assert EncodedSamples(tmp_path / "none.jpegs", (0, 8, 8, 1), JPEG)[:].shape == (0, 8, 8, 1)


# How it is read

ROWS = [
    3,
    -1,
    np.int64(7),
    slice(None),
    slice(20, 4, -3),
    slice(25, 99),
    [5, 2, 2, -30],
    np.array([29, 0, 14, 14]),
    np.array([[1, 2], [3, 4]]),
    np.arange(30) % 3 == 0,
    np.zeros(30, dtype=bool),
    [],
]


@pytest.mark.parametrize("rows", ROWS, ids=repr)
@pytest.mark.usefixtures("in_threads")
def test_rows_are_chosen_as_of_a_numpy_array(samples: EncodedSamples, rows: Any) -> None:
    expected = np.stack([samples[row] for row in range(30)])[rows]
    found = samples[rows]
    assert found.dtype == samples.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert (samples.shape, samples.ndim, len(samples)) == (SHAPE, 4, 30)


@pytest.mark.parametrize("rows", [30, -31, [0, 30], np.zeros(29, dtype=bool), 1.5, (0, 0)], ids=repr)
def test_rows_that_are_not_there_are_refused_as_by_numpy(samples: EncodedSamples, rows: Any) -> None:
    with pytest.raises(IndexError):
        samples[rows]


def test_what_is_read_may_be_changed_and_changes_nothing(samples: EncodedSamples) -> None:
    before = samples[3]
    samples[3][...] = 0
    samples[:][...] = 0
    assert np.array_equal(samples[3], before)
    assert before.any()


@pytest.mark.usefixtures("in_threads")
def test_threads_read_at_the_same_time(samples: EncodedSamples) -> None:
    expected = samples[:]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda number: samples[::-1], range(8)):
            assert np.array_equal(found, expected[::-1])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("in_threads")
def test_a_forked_process_reads_what_its_parent_reads(samples: EncodedSamples) -> None:
    expected = zlib.crc32(samples[:])
    child = os.fork()
    if not child:
        os._exit(0 if zlib.crc32(samples[:]) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert zlib.crc32(samples[:]) == expected


# What is damaged


@pytest.mark.parametrize("kept", [0, 3, 20, 1000, -1])
def test_a_file_that_is_cut_off_is_refused_by_name(packed: Path, kept: int) -> None:
    path = packed / "train.jpegs"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"train\.jpegs is damaged; prepare the data set again\."):
        Dataset.open(packed).split("train")
    assert len(Dataset.open(packed).split("test").samples[:])


def test_a_file_whose_table_is_damaged_is_refused_by_name(packed: Path) -> None:
    path = packed / "train.jpegs"
    content = bytearray(path.read_bytes())
    # The first sample's end, in the table before the last 16 bytes.
    content[-16 - 12 * Dataset.open(packed).counts["train"]] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.jpegs is damaged"):
        Dataset.open(packed).split("train").samples[0]


def test_a_file_of_another_split_is_refused(packed: Path) -> None:
    shutil.copy(packed / "test.jpegs", packed / "train.jpegs")
    counts = Dataset.open(packed).counts
    with pytest.raises(InputError, match=rf"train\.jpegs holds {counts['test']} samples instead of {counts['train']}"):
        Dataset.open(packed).split("train")


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("place", [0, 300, -20, -1])
def test_a_damaged_sample_is_refused_by_its_number_and_the_others_are_read(
    samples: EncodedSamples, tmp_path: Path, place: int
) -> None:
    path = tmp_path / "photographs.jpegs"
    content = bytearray(path.read_bytes())
    start, end = samples._bounds[11:13]
    content[range(start, end)[place]] ^= 1
    expected = samples[12:]
    path.write_bytes(content)
    damaged = EncodedSamples(path, SHAPE, JPEG)
    with pytest.raises(InputError, match=r"Sample 11 of .*photographs\.jpegs is damaged; prepare the data set again"):
        damaged[:]
    assert np.array_equal(damaged[12:], expected)


@pytest.mark.parametrize("shape", [(1, 4000, 4000, 3), (1, 48, 64, 1), (1, 64, 48, 3)])
def test_a_picture_of_another_size_or_kind_is_refused_before_it_is_decoded(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_encoded(tmp_path / "foreign.jpegs", np.zeros(shape, dtype=np.uint8), JPEG)
    decoded: list[object] = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded.append)
    with pytest.raises(InputError, match=r"Sample 0 of .*foreign\.jpegs is damaged"):
        EncodedSamples(tmp_path / "foreign.jpegs", (1, 48, 64, 3), JPEG)[0]
    assert not decoded


def test_what_is_not_a_jpeg_is_refused_though_it_is_as_it_was_written(tmp_path: Path) -> None:
    encoded._write(tmp_path / "text.jpegs", [b"not a picture"])
    with pytest.raises(InputError, match=r"Sample 0 of .*text\.jpegs is damaged"):
        EncodedSamples(tmp_path / "text.jpegs", (1, 8, 8, 1), JPEG)[0]


def test_a_missing_file_is_named(packed: Path) -> None:
    (packed / "val.jpegs").unlink()
    with pytest.raises(InputError, match=r"val\.jpegs is missing"):
        Dataset.open(packed)


def test_a_store_of_a_newer_version_is_refused(packed: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    write_json(packed / "manifest.json", manifest | {"store": "avif"})
    with pytest.raises(InputError, match=r"was made by a newer headstart: it keeps its samples as avif\."):
        Dataset.open(packed)


def test_a_data_set_of_before_there_was_a_choice_is_raw(stores: dict[str, Dataset], tmp_path: Path) -> None:
    old = Path(shutil.copytree(stores["raw"].path, tmp_path / "old"))
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["store"], manifest["files"]
    write_json(old / "manifest.json", manifest)
    assert np.array_equal(Dataset.open(old).split("val").samples, stores["raw"].split("val").samples)


# What is done with it


def test_a_part_of_a_data_set_has_the_same_pictures(stores: dict[str, Dataset], tmp_path: Path) -> None:
    whole = stores["jpeg"]
    positions = np.array([2, 3, 11, 30])
    part = subset_of(whole, positions, tmp_path / "part")
    assert part.store == "jpeg"
    assert np.array_equal(part.split("train").samples[:], whole.split("train").samples[positions])
    assert np.array_equal(part.split("test").samples[:], whole.split("test").samples[:])


def test_it_is_trained_on_judged_and_looked_at_as_one_kept_as_pixels(
    stores: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(samples: EncodedSamples) -> None:
        raise AssertionError("a whole split is read at once")

    monkeypatch.setattr(EncodedSamples, "__array__", refuse)
    pinned = {"precision": "fp32", "layout": "contiguous", "compile": "off"}
    section = Pretraining.of({"epochs": 4, "batch_size": 8, "augmentation": "crop", **pinned})
    trained = {store: pretrain(section, dataset, RunContext()).bundle for store, dataset in stores.items()}
    tests = {store: dataset.split("test") for store, dataset in stores.items()}
    for bundle in trained.values():
        of_raw, of_jpeg = (bundle.predict_probabilities(tests[store].samples) for store in ("raw", "jpeg"))
        assert np.abs(of_raw - of_jpeg).max() < 0.1
        assert np.mean(of_jpeg.argmax(axis=1) == tests["jpeg"].labels) > 0.8

    trained["jpeg"].save(tmp_path / "bundle")
    contenders = [Contender("full", "transfer", tmp_path / "bundle", 0.9, 1.0, "run")]
    evaluation = Evaluation(resamples=100, curve=(2,), robustness=4, explanations=2)
    found = evaluate(contenders, stores["jpeg"], tmp_path / "predictions", evaluation=evaluation)
    assert found.leaderboard.chosen.value > 0.8
    looked = diagnose(found, stores["jpeg"], tmp_path / "bundle", evaluation=evaluation)
    assert looked.curve is not None
    assert looked.curve.series[-1].points[-1].mean > 0.8
    assert looked.explained is not None
