"""Samples that are streamed are read as those on the disk are, from a cache that stays as small as it may be."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data import streamed, streaming
from headstart.data.blocks import blocks_of
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.folded import further_folds
from headstart.data.labelled import LabelledDataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.data.streamed import Streamed, StreamedArrays, StreamedRagged, block_writers
from headstart.data.streaming import LIMIT_VARIABLE
from headstart.errors import HeadstartError, InputError
from headstart.judging.data_efficiency import subset_of
from headstart.storage import cache
from headstart.storage.state import STATE_VARIABLE, State
from tests.streamed import streamed as streamed_like

SHAPE = (4, 8)
BLOCK = 10 * 4 * 8


@pytest.fixture(autouse=True)
def _small_blocks_and_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BLOCK", BLOCK)
    monkeypatch.setattr(cache, "_LONGEST_WAIT", 0.0)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(str(tmp_path / "state"))


@pytest.fixture(scope="module")
def stores(kept_both_ways: Callable[[int], dict[str, Dataset]]) -> dict[str, Dataset]:
    return kept_both_ways(120)


@pytest.fixture
def streamed_alike(stores: dict[str, Dataset], tmp_path: Path) -> Callable[[str], Dataset]:
    """The data of a store, prepared with its samples in blocks."""
    return lambda store: streamed_like(stores[store], tmp_path / store, str(tmp_path / "state"))


def write(path: Path, contents: list[bytes], state: State) -> None:
    with block_writers([path], state) as (writer,):
        # In several turns, as groups of shards come.
        for start in range(0, len(contents), 77):
            writer.extend(contents[start : start + 77])


@pytest.fixture
def arrays(state: State, tmp_path: Path) -> tuple[np.ndarray, StreamedArrays]:
    """500 samples, and the same in 50 blocks."""
    values = np.random.default_rng(0).integers(0, 256, (500, *SHAPE), dtype=np.uint8)
    write(tmp_path / "blocks.npz", [sample.tobytes() for sample in values], state)
    return values, StreamedArrays(tmp_path / "blocks.npz", values.shape, "uint8", state)


def kept_bytes(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())


def stored(state: State) -> list[Path]:
    return [state.folder / name for name in state.names("blocks/")]


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_streamed_data_set_has_the_samples_and_labels_of_the_one_on_the_disk(store, stores, streamed_alike):
    found = streamed_alike(store)
    assert found.digest == stores[store].digest
    for name in SPLITS:
        split, expected = found.split(name), stores[store].split(name)
        assert not (found.path / stores[store].samples_file(name)).exists()
        back = np.argsort(split.paths)
        assert np.array_equal(split.paths[back], np.sort(expected.paths))
        place = np.argsort(expected.paths)
        for column in ("labels", "ids", "groups", "paths"):
            assert np.array_equal(getattr(split, column)[back], getattr(expected, column)[place])
        assert np.array_equal(split.samples[back], np.asarray(expected.samples[place]))
    kind, given, train = found.kind, found.given, found.split("train")
    pictures = {
        label: {kind.as_html(train.samples[row], f"a training sample of {label}", given, small=True) for row in rows}
        for number, label in enumerate(found.classes)
        for rows in [np.flatnonzero(train.labels == number)]
    }
    shown = [*re.finditer(r'<img [^>]*alt="a training sample of (.)"[^>]*>', (found.path / "report.html").read_text())]
    assert {picture[1] for picture in shown} == set(found.classes)
    assert all(picture[0] in pictures[picture[1]] for picture in shown)


ROWS: dict[str, Any] = {
    "a position": 7,
    "the last": -1,
    "a slice": slice(3, 400, 7),
    "positions in any order, twice": np.array([499, 3, 3, 250, 0]),
    "a mask": np.arange(500) % 3 == 0,
    "none": np.array([], dtype=np.int64),
    "all": slice(None),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_samples_are_indexed_as_an_array_is(rows, arrays):
    values, found = arrays
    assert np.array_equal(found[rows], values[rows])


@pytest.mark.parametrize("lengths", ["unequal", "equal"])
def test_samples_of_unequal_length_come_as_they_are(lengths, state, tmp_path):
    generator = np.random.default_rng(1)
    sizes = generator.integers(0, 30, 200) if lengths == "unequal" else np.full(200, 7)
    values = [generator.normal(size=(size, 2)).astype(np.float32) for size in sizes]
    write(tmp_path / "b.npz", [each.tobytes() for each in values], state)
    found = StreamedRagged(tmp_path / "b.npz", 200, (2,), "float32", state)
    assert found.lengths.tolist() == sizes.tolist()
    for rows in (np.arange(200), generator.permutation(200)[:50]):
        expected = [values[row] for row in rows]
        assert all(np.array_equal(one, other) for one, other in zip(found[rows], expected, strict=True))
    assert np.array_equal(found[11], values[11])


def test_the_cache_stays_within_its_limit_whatever_is_read(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "_HELD", 4)
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(12 * BLOCK))
    values, _ = arrays
    found = StreamedArrays(tmp_path / "blocks.npz", values.shape, "uint8", State(str(tmp_path / "state")))
    for start in np.random.default_rng(2).permutation(np.arange(0, 500, 10)).tolist() * 2:
        assert np.array_equal(found[start : start + 10], values[start : start + 10])
        # What is under way comes on top, of which there are as many as are open.
        assert kept_bytes(tmp_path) <= (12 + 4) * BLOCK


def test_what_was_read_last_is_not_asked_for_again(arrays, state):
    values, found = arrays
    assert np.array_equal(found[:], values)
    for block in stored(state):
        block.unlink()
    again = StreamedArrays(found.blocks.path, values.shape, "uint8", state)
    assert np.array_equal(again[:], values)


def test_a_block_that_is_damaged_in_the_cache_is_fetched_again(arrays, state, tmp_path):
    values, found = arrays
    assert np.array_equal(found[:], values)
    for kept in (tmp_path / "cache").rglob("*"):
        if kept.is_file():
            content = bytearray(kept.read_bytes())
            content[5] ^= 1
            kept.unlink()
            kept.write_bytes(content if len(content) % 2 else content[:-1])
    again = StreamedArrays(found.blocks.path, values.shape, "uint8", state)
    assert np.array_equal(again[:], values)


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_a_block_that_is_damaged_in_the_state_is_refused(damage, arrays, state):
    _, found = arrays
    for block in stored(state):
        content = block.read_bytes()
        block.write_bytes(content[:-1] if damage == "cut" else b"\0" + content[1:])
    with pytest.raises(HeadstartError, match=r"blocks\.npz lies in blocks of which one is damaged in the state"):
        found[[3]]


def test_a_block_that_the_state_has_no_longer_is_said_to_be_missing(arrays, state):
    _, found = arrays
    stored(state)[0].unlink()
    with pytest.raises(InputError, match=r"the state no longer has one .*; prepare the data set again"):
        found[:]


@pytest.mark.parametrize(
    "change",
    [
        {"rows": np.array([0, 400, 300, 500])},
        {"rows": np.array([0, 500.0])},
        {"digests": np.zeros((3, 32), dtype=np.uint8)},
        {"bounds": np.array([0, -1])},
        {"bounds": np.array([[0], [1]])},
        {"rows": np.array([0], dtype=object)},
    ],
)
def test_a_list_of_blocks_that_does_not_fit_together_is_refused(change, arrays, state):
    _, found = arrays
    with np.load(found.blocks.path) as content:
        np.savez(found.blocks.path, **{**content, **change})
    with pytest.raises(InputError, match=r"blocks\.npz is damaged; prepare the data set again"):
        Streamed(found.blocks.path, 500, state)


_READER = """
import sys, numpy as np
from headstart.data import streamed
from headstart.data.streamed import StreamedArrays
from headstart.storage.state import State
streamed._HELD = 4
found = StreamedArrays(__import__("pathlib").Path(sys.argv[1]), (500, 4, 8), "uint8", State(sys.argv[2]))
order = np.random.default_rng(int(sys.argv[3])).permutation(500)
parts = [found[part] for part in np.array_split(order, 60)]
print(int((np.concatenate(parts).reshape(500, -1).astype(np.int64).sum(1) * (order + 1)).sum()))
"""


def test_two_processes_that_share_a_cache_read_the_same_within_its_limit(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(10 * BLOCK))
    values, found = arrays
    command = [sys.executable, "-c", _READER, str(found.blocks.path), str(tmp_path / "state")]
    readers = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True, env=os.environ) for seed in (0, 1)
    ]
    expected = int((values.reshape(500, -1).astype(np.int64).sum(1) * np.arange(1, 501)).sum())
    assert [int(reader.communicate()[0]) for reader in readers] == [expected, expected]
    # 4 that are open in each, and 4 under way.
    assert kept_bytes(tmp_path) <= (10 + 16) * BLOCK


def test_blocks_are_a_random_part_of_the_samples_whatever_order_they_came_in(stores, streamed_alike):
    """The files of a class lie in one folder; neighbours in the store are of any class."""
    found = streamed_alike("raw").split("train")
    assert (np.diff(stores["raw"].split("train").labels) != 0).sum() == 2
    assert (np.diff(found.labels) != 0).sum() > len(found.labels) / 2


def test_splits_that_are_joined_or_chosen_from_lie_in_the_blocks_of_their_parts(streamed_alike):
    found = streamed_alike("raw")
    train, val = (blocks_of(found.samples(name)) for name in ("train", "val"))
    labelled = LabelledDataset(found)
    assert blocks_of(labelled.samples("train")).tolist() == [*train, *(val + train.max() + 1)]
    fold = next(iter(further_folds(found)))
    assert set(blocks_of(fold.samples("train"))) <= set(blocks_of(labelled.samples("train")))
    assert np.array_equal(
        fold.samples("train")[:],
        labelled.samples("train")[:][~np.isin(labelled.split("train").ids, fold.split("val").ids)],
    )


def test_samples_on_the_disk_are_in_no_blocks(stores):
    assert blocks_of(stores["raw"].samples("train")) is None
    assert stores["raw"].blocks_digest is None


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_part_of_a_streamed_training_split_lies_on_the_disk(store, streamed_alike, tmp_path):
    found = streamed_alike(store)
    positions = np.arange(0, 40, 3)
    part = subset_of(found, positions, tmp_path / "part")
    assert np.array_equal(np.asarray(part.samples("train")[:]), found.samples("train")[positions])
    assert np.array_equal(part.samples("test")[:], found.samples("test")[:])
    assert part.split("train").ids.tolist() == found.split("train").ids[positions].tolist()


@pytest.mark.parametrize("store", ["raw", "jpeg"])
@pytest.mark.parametrize(
    ("given", "limit", "remote", "expected"),
    [
        ("auto", "0", True, True),
        ("auto", "1000000", True, False),
        ("auto", None, True, False),
        ("auto", "0", False, False),
        ("always", None, False, True),
        ("never", "0", True, False),
    ],
)
def test_a_store_is_streamed_where_asked_or_where_it_is_too_large(
    store, given, limit, remote, expected, stores, tmp_path, monkeypatch
):
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr(State, "is_remote", remote)
    uri = stores["raw"].manifest["source"]["uri"]
    if limit:
        monkeypatch.setenv(LIMIT_VARIABLE, limit)
    found = prepare(Data.of({"uri": uri, "size": 16, "store": store, "stream": given}), tmp_path / "packed")
    assert [found.is_streamed(split) for split in SPLITS] == [expected] * 3


def test_streaming_without_a_state_is_refused_and_leaves_nothing(stores, tmp_path):
    uri = stores["raw"].manifest["source"]["uri"]
    with pytest.raises(InputError, match="HEADSTART_STATE is not set, without which no step can stream a store"):
        prepare(Data.of({"uri": uri, "stream": "always"}), tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "100G")
    with pytest.raises(InputError, match="HEADSTART_STORE_LIMIT is '100G'; give a whole number of bytes"):
        streaming.store_limit()


def test_a_state_that_is_not_mounted_is_named(streamed_alike, tmp_path):
    found = streamed_alike("raw")
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="state is not there; mount it at this place"):
        found.samples("train")
