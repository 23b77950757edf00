import json
import os
import signal
from pathlib import Path

import pytest

from headstart.storage.local import new_directory, resumed_directory, sync, write_bytes, write_json, write_text


@pytest.fixture
def umask():
    """Sets the process's umask for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_written_file_holds_the_content_and_replaces_what_stood_there(tmp_path):
    path = tmp_path / "new" / "file"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_bytes(path, "text, not bytes")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_cannot_be_committed_leaves_no_rubbish(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_text(tmp_path / "taken", "content")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_equal_json_is_equal_bytes_whatever_the_order_of_its_keys(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [2]})
    write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_others_may_read_what_the_umask_allows(tmp_path, umask, mask, mode):
    umask(mask)
    write_text(tmp_path / "file", "content")
    with new_directory(tmp_path / "folder"):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    # A folder also lets those who may read it enter it.
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_directory_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "result"
    with new_directory(path) as draft:
        (draft / "part").write_text("one")
        assert not path.exists()
        assert draft.parent == path.parent
    assert (path / "part").read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "result"
    for name in ("old", "new"):
        with new_directory(path) as draft:
            (draft / name).touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("problem", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_directory_whose_making_fails_leaves_the_old_one_and_no_rubbish(tmp_path, problem):
    path = tmp_path / "result"
    with new_directory(path) as draft:
        (draft / "good").touch()

    def fill(draft: Path) -> None:
        (draft / "half").touch()
        raise problem

    with pytest.raises(type(problem)), new_directory(path) as draft:
        fill(draft)
    assert [file.name for file in path.iterdir()] == ["good"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_of_a_directory_is_removed_by_the_next(tmp_path):
    path = tmp_path / "result"
    child = os.fork()
    if child == 0:
        with new_directory(path) as draft:
            (draft / "half").write_text("of it")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob(".result.*"))) == 1
    with new_directory(path) as draft:
        (draft / "whole").touch()
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_another_process_fills_is_left_alone(tmp_path):
    with new_directory(tmp_path / "result") as first, new_directory(tmp_path / "result") as second:
        (first / "one").touch()
        (second / "two").touch()
    assert [file.name for file in (tmp_path / "result").iterdir()] == ["one"]
    assert list(tmp_path.iterdir()) == [tmp_path / "result"]


def test_no_other_hidden_directory_is_taken_for_one_that_was_left(tmp_path):
    others = [".a*.d", ".ab.headstart-draft-12345678"]
    for name in (*others, ".a*.headstart-draft-12345678"):
        (tmp_path / name).mkdir()
    with new_directory(tmp_path / "a*"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [*others, "a*"]


def test_two_processes_that_finish_at_the_same_time_leave_one_whole_directory(tmp_path, monkeypatch):
    path = tmp_path / "result"
    rename = os.rename

    def rename_after_another_has(source, target):
        if target == path and not path.exists():
            monkeypatch.undo()
            with new_directory(path) as draft:
                (draft / "faster").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_another_has)
    with new_directory(path) as draft:
        (draft / "slower").touch()
    assert [file.name for file in path.iterdir()] == ["slower"]
    assert list(tmp_path.iterdir()) == [path]


def killed_with(path: Path, name: str) -> None:
    """A process that is killed after it has made a file in its directory for `path`."""
    child = os.fork()
    if child == 0:
        with resumed_directory(path) as work:
            (work / name).write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_work_of_a_killed_process_is_there_for_the_next_and_gone_after_it(tmp_path):
    path = tmp_path / "deep" / "result"
    killed_with(path, "one")
    killed_with(path, "two")
    with resumed_directory(path) as work:
        assert {file.name: file.read_text() for file in work.iterdir()} == {"one": "one", "two": "two"}
        assert list(path.parent.iterdir()) == [work]
    assert list(path.parent.iterdir()) == []


def test_work_is_kept_when_it_is_interrupted_and_removed_when_it_fails(tmp_path):
    def work_until(problem: BaseException) -> None:
        with resumed_directory(tmp_path / "result") as work:
            (work / "half").touch()
            raise problem

    with pytest.raises(KeyboardInterrupt):
        work_until(KeyboardInterrupt())
    with resumed_directory(tmp_path / "result") as work:
        assert [file.name for file in work.iterdir()] == ["half"]
    with pytest.raises(RuntimeError):
        work_until(RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_the_work_of_a_process_that_lives_is_left_alone(tmp_path):
    path = tmp_path / "result"
    with resumed_directory(path) as first:
        (first / "mine").touch()
        with resumed_directory(path) as second:
            assert list(second.iterdir()) == []
        killed_with(path, "other")
        assert [file.name for file in first.iterdir()] == ["mine"]
        with resumed_directory(path) as third:
            assert [file.name for file in third.iterdir()] == ["other"]
    assert list(tmp_path.iterdir()) == []


def test_files_are_brought_to_the_disk_below_every_folder(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("content")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.path.realpath(f"/proc/self/fd/{handle}")))
    sync(tmp_path)
    assert synced == [str(tmp_path), str(tmp_path / "deep" / "file"), str(tmp_path / "deep")]
