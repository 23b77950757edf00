"""A preparation that is killed leaves a whole data set or none, and the next run goes on and makes the same one."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from headstart.data import shards, tree
from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import InputError
from headstart.storage.local import resumed_directory

Pack = Callable[..., Dataset]
Picture = Callable[[Path, int], Path]

SPREAD = 8
FILES = 24
CHANGES = (os.rename, os.replace, os.unlink, os.rmdir)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FILES", 6)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on, as class/name."""
    names: list[str] = []
    read = tree.read_file

    def note(path: Path) -> bytes:
        names.append(f"{path.parent.name}/{path.name}")
        return read(path)

    monkeypatch.setattr(tree, "read_file", note)
    return names


def in_child(work: Callable[[], object], *, kill_at: int | None = None) -> list[int]:
    """Runs `work` in a copy of this process, which kills itself at one of its moments: calls into headstart, and ends
    of renames and removals. How many there are and which of them change the disk, where it does not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        moments, changes = 0, []

        def count(frame: FrameType, event: str, function: Any) -> None:
            nonlocal moments
            is_change = event == "c_return" and function in CHANGES
            if is_change or (event == "call" and "headstart" in frame.f_code.co_filename):
                moments += 1
                if is_change:
                    changes.append(moments)
                if moments == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        work()
        sys.setprofile(None)
        os.write(writing, json.dumps([moments, *changes]).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (kill_at is not None)
    with os.fdopen(reading) as answer:
        found: list[int] = json.loads(answer.read() or "[]")
    return found


def left_over(folder: Path) -> int:
    """How many files are in the whole shards that killed runs have left in a folder."""
    records = [path for path in folder.glob(".*/*.json") if path.with_suffix(".arrays").exists()]
    return sum(len(json.loads(record.read_bytes())) for record in records)


def content_of(dataset: Dataset) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.path.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("over_an_older_one", [False, True])
def test_killed_at_any_moment_it_leaves_all_or_nothing_and_the_next_run_goes_on(
    tmp_path: Path, folder: Path, pack: Pack, reads: list[str], over_an_older_one: bool
) -> None:
    expected = content_of(pack(folder, destination=tmp_path / "expected"))
    older = content_of(pack(folder, destination=tmp_path / "older", seed=1))
    packed = tmp_path / "here" / "packed"

    def start() -> None:
        shutil.rmtree(packed.parent, ignore_errors=True)
        if over_an_older_one:
            shutil.copytree(tmp_path / "older", packed)

    start()
    count, *changes = in_child(lambda: pack(folder, destination=packed))
    spread = (count * number // SPREAD for number in range(1, SPREAD))
    continued, absent = set(), 0
    for moment in (*changes, *spread, count - 1):
        start()
        in_child(lambda: pack(folder, destination=packed), kill_at=moment)
        if packed.exists():
            assert content_of(Dataset.open(packed)) in (older, expected)
        else:
            absent += 1
            with pytest.raises(InputError, match="is not a packed data set"):
                Dataset.open(packed)
        finished = left_over(packed.parent)
        reads.clear()
        assert content_of(pack(folder, destination=packed)) == expected
        assert len(reads) == FILES - finished
        assert list(packed.parent.iterdir()) == [packed]
        continued.add(finished)
    # Between the two renames that put the new one in the place of the older one there is none.
    assert absent == 1 or not over_an_older_one
    assert continued >= {0, FILES}
    assert len(continued) > 3


def interrupted(monkeypatch: pytest.MonkeyPatch, reads: list[str], work: Callable[[], object]) -> None:
    """Runs `work`, which is interrupted when two thirds of the files are read."""
    read = tree.read_file

    def read_or_end(path: Path) -> bytes:
        if len(reads) >= 2 * FILES // 3:
            raise KeyboardInterrupt
        return read(path)

    reads.clear()
    with monkeypatch.context() as patch:
        patch.setattr(shards, "processors", lambda: 1)
        patch.setattr(shards, "GROUP_FILES", 1)
        patch.setattr(tree, "read_file", read_or_end)
        with pytest.raises(KeyboardInterrupt):
            work()
    reads.clear()


def test_what_was_added_or_changed_since_is_read_and_little_else(
    folder: Path, pack: Pack, picture: Picture, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    finished = left_over(tmp_path)
    picture(folder / "cat" / "0001.png", 77)
    picture(folder / "cat" / "0007b.png", 78)
    packed = pack(folder)
    assert {"cat/0001.png", "cat/0007b.png"} < set(reads)
    # Two shards at most for each: no file of the others moves to another one.
    assert FILES - finished < len(reads) < FILES + 1
    assert content_of(packed) == content_of(pack(folder, destination=tmp_path / "fresh"))


@pytest.mark.parametrize("options", [{"size": 16}, {"channels": 3}])
def test_shards_of_other_settings_are_not_taken(
    folder: Path,
    pack: Pack,
    reads: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    assert left_over(tmp_path) > 0
    pack(folder, **options)
    assert len(reads) == FILES


@pytest.mark.parametrize(
    "options", [{"seed": 5}, {"labels": "none"}, {"split": {"train": 0.2, "val": 0.2, "test": 0.6}}]
)
def test_settings_that_change_no_pixels_cost_no_reading(
    folder: Path,
    pack: Pack,
    reads: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    finished = left_over(tmp_path)
    packed = pack(folder, **options)
    assert len(reads) == FILES - finished
    assert content_of(packed) == content_of(pack(folder, destination=tmp_path / "fresh", **options))


def test_pixels_that_a_crashed_machine_never_wrote_are_read_again(
    folder: Path, pack: Pack, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    first, second, *_ = tmp_path.glob(".*/*.arrays")
    first.write_bytes(bytes(first.stat().st_size))
    os.truncate(second, second.stat().st_size - 1)
    record = next(path for path in tmp_path.glob(".*/*.json") if path.stem not in (first.stem, second.stem))
    record.write_bytes(record.read_bytes()[:-5])
    packed = pack(folder)
    assert content_of(packed) == content_of(pack(folder, destination=tmp_path / "fresh"))


@pytest.mark.parametrize("form", ["zip", "tar", "gztar", "csv"])
def test_archives_and_tables_are_continued_too(
    folder: Path, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "csv":
        source = tmp_path / "table.csv"
        rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
        source.write_text("\n".join(["path,label", *rows]))
    else:
        source = Path(shutil.make_archive(str(tmp_path / "archive"), form, folder))
    decoded = 0

    def read_or_end(*arguments: Any) -> Any:
        nonlocal decoded
        decoded += 1
        if decoded == limit:
            raise KeyboardInterrupt
        return shards_read(*arguments)

    shards_read = shards.read_content
    monkeypatch.setattr(shards, "read_content", read_or_end)
    limit = 20
    with pytest.raises(KeyboardInterrupt):
        pack(source)
    finished, decoded, limit = left_over(tmp_path), 0, 0
    packed = pack(source)
    assert decoded == FILES - finished
    assert content_of(packed) == content_of(pack(source, destination=tmp_path / "fresh"))


def test_a_run_that_fails_leaves_no_shards(folder: Path, pack: Pack, tmp_path: Path) -> None:
    for path in sorted(folder.rglob("*.png"))[:11]:
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="max_refused"):
        pack(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_of_two_live_runs_each_has_its_own_shards(
    folder: Path, pack: Pack, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    with resumed_directory(tmp_path / "packed") as work:
        held = {path.name: path.read_bytes() for path in work.iterdir()}
        assert left_over(tmp_path) > 0
        pack(folder)
        assert len(reads) == FILES
        assert {path.name: path.read_bytes() for path in work.iterdir()} == held
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "pictures"]


def test_the_shards_of_all_runs_that_were_killed_are_taken(
    folder: Path, pack: Pack, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, reads, lambda: pack(folder))
    (left,) = tmp_path.glob(".*")
    other = left.with_name(f"{left.name}2")
    other.mkdir()
    record = next(left.glob("*.json"))
    for path in (record, record.with_suffix(".arrays")):
        path.rename(other / path.name)
    finished = left_over(tmp_path)
    pack(folder)
    assert len(reads) == FILES - finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "pictures"]


def test_any_number_of_threads_makes_the_same_data_set(
    folder: Path, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dog" / "0003.png").write_bytes(b"no picture")
    monkeypatch.setattr(shards, "GROUP_FILES", 2)
    made = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(shards, "processors", lambda threads=threads: threads)
        made.append(content_of(pack(folder, destination=tmp_path / f"by{threads}")))
    assert made[0] == made[1] == made[2]
    assert set(made[0]) >= {f"{name}.npy" for name in SPLITS}
