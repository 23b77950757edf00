"""A preparation for streaming needs room for a part of the arrays, and makes what one with all the room would make."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data import shards, shelf, streamed, streaming
from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare, prepare_part
from headstart.data.section import Data
from headstart.errors import HeadstartError
from headstart.storage import cache
from headstart.storage.state import STATE_VARIABLE, State
from tests.data.test_duplicates import crop, saved_again
from tests.data.test_killed import content_of, in_child, small_shards  # noqa: F401 (a fixture)

Pack = Callable[..., Dataset]

SIZE = 32
EACH = SIZE * SIZE * 3
# Arrays that may be on the disk at once, and in a block: of 12 pictures in shards of 6 at most, and of 4.
ROOM, BLOCK = 12 * EACH, 4 * EACH
PARTS = 3


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setattr(streaming, "AT_ONCE", ROOM)
    monkeypatch.setattr(streamed, "BLOCK", BLOCK)
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return State(str(tmp_path / "state"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """48 parts of photographs, three of them saved again in another format, and a file that is no picture."""
    root = tmp_path / "many"
    for number in range(48):
        folder = root / ("china", "flower")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        crop(number).save(folder / f"{number:02}.png")
    saved_again(root, range(3))
    (root / "china" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def pack(pictures: Path, tmp_path: Path) -> Pack:
    """Prepare them for streaming."""

    def packed(destination: str = "packed", parts: State | None = None) -> Dataset:
        split = {"train": 0.5, "val": 0.2, "test": 0.3}
        data = Data.of({"uri": str(pictures), "size": SIZE, "split": split, "stream": "always"})
        return prepare(data, tmp_path / destination, parts=parts)

    return packed


@pytest.fixture
def expected(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What a process with all the room makes of them, in the groups that one without makes."""
    with monkeypatch.context() as patch:
        patch.setattr("headstart.data.prepare.arrays_at_once", lambda data: None)
        found = pack("expected")
    assert any("3 pairs of different files look the same" in note for note in found.manifest["notes"])
    return content_of(found)


@pytest.fixture
def occupied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of arrays beside the data set, whenever they are most."""
    found: list[int] = []

    def measure() -> None:
        found.append(sum(path.stat().st_size for path in tmp_path.glob(".packed*/*.arrays")))

    leave, brought = shelf.Shelf.leave, shelf.Shelf.brought

    def left(self: Any, *given: Any) -> None:
        measure()
        leave(self, *given)

    @contextmanager
    def there(self: Any, *given: Any) -> Iterator[None]:
        with brought(self, *given):
            measure()
            yield

    monkeypatch.setattr(shelf.Shelf, "leave", left)
    monkeypatch.setattr(shelf.Shelf, "brought", there)
    return found


def read_parts(folder: Path, state: State) -> None:
    for part in range(PARTS):
        prepare_part(Data.of({"uri": str(folder), "size": SIZE}), state, part=part, parts=PARTS)


def lose_arrays(state: State) -> None:
    for name in state.names("parts/"):
        if name.endswith(".arrays"):
            state.remove(name)


def before_they_are_brought(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    brought = shelf.Shelf.brought

    def then(self: Any, paths: Any) -> Any:
        happens()
        return brought(self, paths)

    monkeypatch.setattr(shelf.Shelf, "brought", then)


@pytest.mark.parametrize("in_parts", [True, False])
def test_no_more_arrays_than_there_is_room_for_lie_on_the_disk(
    in_parts, pictures, pack, state, expected, occupied, monkeypatch
):
    if in_parts:
        read_parts(pictures, state)
        monkeypatch.setattr(shards, "read_content", lambda *_: pytest.fail("a file was read again"))
    packed = pack(parts=state if in_parts else None)

    assert content_of(packed) == expected
    # What was there at first, a group of shards, and a shard that comes.
    assert max(occupied) <= 2 * ROOM + 6 * EACH
    assert len([size for size in occupied if size > ROOM]) >= 3


def test_arrays_that_were_brought_are_read_from_the_disk(pictures, pack, state, monkeypatch):
    """A request for each sample would be as many as there are samples."""
    read_parts(pictures, state)
    brought, read_part, there = shelf.Shelf.brought, State.read_part, []

    @contextmanager
    def noted(self: Any, paths: Any) -> Iterator[None]:
        with brought(self, paths):
            there.append(True)
            yield
            there.pop()

    def read(self: State, *given: Any) -> bytes | None:
        assert not there
        return read_part(self, *given)

    monkeypatch.setattr(shelf.Shelf, "brought", noted)
    monkeypatch.setattr(State, "read_part", read)
    pack(parts=state)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_arrays_that_are_damaged_in_the_state_are_read_anew(damage, pictures, pack, state, expected):
    read_parts(pictures, state)
    for name in state.names("parts/"):
        if name.endswith(".arrays"):
            path = state.folder / name
            content = path.read_bytes()
            path.unlink()
            if damage != "gone":
                path.write_bytes(content[:-5] if damage == "cut" else bytes(len(content)))
    assert content_of(pack(parts=state)) == expected


def test_arrays_that_go_while_they_are_needed_are_read_anew(pictures, pack, state, expected, monkeypatch):
    read_parts(pictures, state)
    before_they_are_brought(monkeypatch, lambda: lose_arrays(state))
    assert content_of(pack(parts=state)) == expected


def test_files_that_have_changed_where_their_arrays_are_needed_again_are_refused(pictures, pack, state, monkeypatch):
    read_parts(pictures, state)

    def change() -> None:
        lose_arrays(state)
        for path in pictures.glob("china/*.png"):
            Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)

    before_they_are_brought(monkeypatch, change)
    with pytest.raises(HeadstartError, match="change while they are being prepared; run again"):
        pack(parts=state)


def test_what_was_left_in_the_state_goes_after_two_weeks(pack, state):
    pack()
    left = [state.folder / name for name in state.names("parts/")]
    for path in left[:2]:
        os.utime(path, (1, 1))
    pack("another")
    assert [path.exists() for path in left[:3]] == [False, False, True]


def test_a_group_has_shards_from_everywhere(pack):
    """The files of a class lie together, and a group is a quarter of all files."""
    packed = pack().split("train")
    assert all(len(set(part.tolist())) == 2 for part in np.array_split(packed.labels, 2))


def test_killed_at_any_moment_it_goes_on_to_the_same_blocks(pack, state, expected):
    moments, *changes = in_child(lambda: pack("counted"))
    for moment in (*(moments * number // 7 for number in range(1, 7)), changes[-1]):
        shutil.rmtree(state.folder)
        in_child(lambda: pack("killed"), kill_at=moment)
        assert content_of(pack("killed")) == expected
