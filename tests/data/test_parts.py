"""Several processes read the files of a data set, and one joins them to what one alone would have made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.data import shards
from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare_part
from headstart.data.section import Data
from headstart.storage.state import State
from tests.data.test_killed import content_of, in_child, small_shards  # noqa: F401 (a fixture)

Pack = Callable[..., Dataset]

FILES = 96
PARTS = 3


@pytest.fixture
def pictures(tmp_path: Path, fill: Callable[..., Path]) -> Path:
    """Pictures of two classes, one of which is a copy of another and one no picture."""
    root = fill(tmp_path / "many", {"cat": FILES // 2, "dog": FILES // 2 - 2})
    shutil.copyfile(root / "cat" / "0001.png", root / "cat" / "copy.png")
    (root / "dog" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(str(tmp_path / "state"))


def read(folder: Path, state: State, part: int, parts: int = PARTS) -> tuple[int, int]:
    """A part as a step reads it: with the settings that `pack` gives the preparation."""
    return prepare_part(Data.of({"uri": str(folder), "size": 8}), state, part=part, parts=parts)


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_parts_that_are_joined_are_what_one_process_makes(
    pictures: Path, pack: Pack, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    alone = content_of(pack(pictures, destination=tmp_path / "alone"))

    counts = [read(pictures, state, part, parts) for part in range(parts)]
    monkeypatch.setattr(shards, "read_content", lambda *_: pytest.fail("a file was read again"))
    joined = content_of(pack(pictures, parts=state))

    assert joined == alone
    # Beside the broken one, which a part has read too.
    assert sum(files for files, _ in counts) == FILES
    assert all(files == now for files, now in counts)


def test_a_part_that_is_killed_is_done_alone_and_from_where_it_was(
    pictures: Path, pack: Pack, state: State, tmp_path: Path
) -> None:
    alone = content_of(pack(pictures, destination=tmp_path / "alone"))
    for part in (0, 2):
        read(pictures, state, part)
    others = set(state.names("parts/"))
    moments, *_ = in_child(lambda: read(pictures, state, 1))

    again = set()
    # The first half of them lists the files.
    for moment in (1, *(moments * number // 12 for number in range(6, 12)), moments - 1):
        for name in set(state.names("parts/")) - others:
            state.remove(name)
        in_child(lambda: read(pictures, state, 1), kill_at=moment)
        files, now = read(pictures, state, 1)
        again.add(now)
        assert [read(pictures, state, part)[1] for part in range(PARTS)] == [0, 0, 0]
        assert content_of(pack(pictures, parts=state)) == alone

    # Killed early, it has left nothing; killed late, all.
    assert min(again) == 0
    assert max(again) == files
    assert len(again) > 2


def test_what_no_part_has_left_is_read_by_the_step_that_joins(
    pictures: Path, pack: Pack, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = content_of(pack(pictures, destination=tmp_path / "alone"))
    files, _ = read(pictures, state, 0)
    others, reader = 0, shards.read_content

    def count(*arguments: Any) -> Any:
        nonlocal others
        others += 1
        return reader(*arguments)

    monkeypatch.setattr(shards, "read_content", count)

    assert content_of(pack(pictures, parts=state)) == alone
    assert others == FILES - files


@pytest.mark.parametrize("damage", ["arrays cut", "arrays changed", "record cut", "record empty", "arrays gone"])
def test_a_part_that_is_damaged_in_the_state_is_read_again(
    pictures: Path, pack: Pack, state: State, tmp_path: Path, damage: str
) -> None:
    alone = content_of(pack(pictures, destination=tmp_path / "alone"))
    for part in range(PARTS):
        read(pictures, state, part)
    what, how = damage.split()
    suffix = ".json" if what == "record" else ".arrays"
    hit = next(state.folder / name for name in state.names("parts/") if name.endswith(suffix))
    content = hit.read_bytes()
    hit.unlink()
    if how != "gone":
        hit.write_bytes({"cut": content[:-5], "changed": bytes(len(content)), "empty": b"[]"}[how])

    assert content_of(pack(pictures, parts=state)) == alone


def test_a_file_that_changes_between_a_part_and_the_join_is_not_taken_from_the_part(
    pictures: Path, pack: Pack, state: State, tmp_path: Path, picture: Callable[[Path, int], Path]
) -> None:
    for part in range(PARTS):
        read(pictures, state, part)
    picture(pictures / "cat" / "0003.png", 987_654_321)
    os.utime(pictures / "cat" / "0003.png", (1, 1))

    assert content_of(pack(pictures, parts=state)) == content_of(pack(pictures, destination=tmp_path / "alone"))


def test_archives_are_read_in_parts_too(pictures: Path, pack: Pack, state: State, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", pictures))
    alone = content_of(pack(archive, destination=tmp_path / "alone"))

    assert sum(read(archive, state, part)[1] for part in range(PARTS)) == FILES
    assert content_of(pack(archive, parts=state)) == alone


def test_parts_that_nobody_joined_go_after_two_weeks(pictures: Path, state: State) -> None:
    read(pictures, state, 0)
    old = state.names("parts/")
    for name in old:
        os.utime(state.folder / name, (1, 1))

    read(pictures, state, 1)

    assert old
    assert not set(old) & set(state.names("parts/"))


def test_a_part_leaves_nothing_behind_but_its_shards(pictures: Path, state: State) -> None:
    read(pictures, state, 0)

    assert [path.name for path in state.folder.iterdir() if path.name != ".drafts"] == ["parts"]
