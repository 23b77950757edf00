import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from headstart.errors import InputError
from headstart.storage import s3
from headstart.storage.state import STATE_VARIABLE, State

WRITTEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def state(tmp_path) -> State:
    return State(str(tmp_path / "state"))


def put(state: State, name: str, content: bytes) -> None:
    with state.draft() as file:
        file.write_bytes(content)
        state.put(file, name)


def got(state: State, name: str, folder: Path) -> bytes | None:
    file = folder / "got"
    file.unlink(missing_ok=True)
    return file.read_bytes() if state.get(name, file) else None


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_was_put_is_found_by_another_process_until_it_is_replaced_or_removed(state, tmp_path):
    put(state, "checkpoints/a.safetensors", b"first")
    put(state, "checkpoints/a.safetensors", b"second")
    other = State(str(tmp_path / "state"))
    assert got(other, "checkpoints/a.safetensors", tmp_path) == b"second"
    assert files(state.folder) == ["checkpoints/a.safetensors"]
    other.remove("checkpoints/a.safetensors")
    other.remove("checkpoints/a.safetensors")
    assert got(state, "checkpoints/a.safetensors", tmp_path) is None
    assert files(state.folder) == []


def test_names_are_listed_by_their_beginning_and_what_is_being_written_has_none_yet(state):
    for name in ("speed/b.json", "speed/a.json", "speedy", "features/x/0.npy"):
        put(state, name, b"content")
    with state.draft() as file:
        file.write_bytes(b"half")
        assert state.names() == ["features/x/0.npy", "speed/a.json", "speed/b.json", "speedy"]
    assert state.names("speed/") == ["speed/a.json", "speed/b.json"]
    assert state.names("speed") == ["speed/a.json", "speed/b.json", "speedy"]
    assert state.names("features/x/0") == ["features/x/0.npy"]
    assert state.names("none/") == []


def test_what_was_put_long_ago_can_be_told(state):
    put(state, "old", b"")
    put(state, "new", b"")
    os.utime(state.folder / "old", (1000, 1000))
    assert state.names_before("", 1001) == ["old"]
    assert state.names_before("", 1000) == []
    assert state.names_before("n", 1001) == []


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_put_that_fails_leaves_the_old_content_and_no_rubbish(state, tmp_path, monkeypatch, failing):
    put(state, "a", b"old")

    def fail(*_, **__):
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(os, failing, fail)
        with pytest.raises(OSError, match="full"):
            put(state, "a", b"new")
    assert got(state, "a", tmp_path) == b"old"
    assert files(state.folder) == ["a"]


def test_a_process_that_is_killed_while_it_puts_leaves_something_whole(tmp_path):
    script = """
import sys
from pathlib import Path
from headstart.storage.state import State
state = State(sys.argv[1])
for version in range(1, 250):
    with state.draft() as file:
        file.write_bytes(bytes([version]) * 2**20)
        state.put(file, "a")
    print(version, flush=True)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    for lines in (1, 2, 5):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(lines):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        content = got(State(str(tmp_path / "state")), "a", tmp_path)
        assert len(content) == 2**20
        assert content[0] >= lines
        assert content == content[:1] * 2**20


def test_what_a_killed_process_was_writing_is_removed_once_it_is_surely_dead(state):
    with state.draft() as file:
        file.write_bytes(b"of one that lives")
        dead = file.with_name("dead")
        dead.write_bytes(b"half a checkpoint")
        os.utime(dead, (1000, 1000))
        with state.draft():
            assert file.exists()
            assert not dead.exists()


def test_a_put_costs_no_copy_on_the_states_file_system_and_works_from_others(state, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"content")
    state.put(file, "linked")
    assert file.samefile(state.folder / "linked")

    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    state.put(file, "copied")
    assert not file.samefile(state.folder / "copied")
    assert got(state, "copied", tmp_path) == b"content"
    assert got(state, "none", tmp_path) is None
    assert file.read_bytes() == b"content"


def test_a_file_that_was_written_in_its_place_may_be_put_there(state, tmp_path):
    place = state.folder / "features" / "a.npy"
    place.parent.mkdir()
    place.write_bytes(b"numbers")
    state.put(place, "features/a.npy")
    assert got(state, "features/a.npy", tmp_path) == b"numbers"


@pytest.mark.parametrize(
    "name",
    ["", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "a/", "./a", ".hidden", "a/.b", "a\\b", "a\nb", "a b"],
)
@pytest.mark.parametrize("location", ["state", "s3://bucket/state"])
def test_hostile_names_are_refused(tmp_path, name, location):
    state = State(location)
    (tmp_path / "file").write_bytes(b"content")
    for act in (
        lambda: state.put(tmp_path / "file", name),
        lambda: state.get(name, tmp_path / "got"),
        lambda: state.remove(name),
    ):
        with pytest.raises(InputError, match="cannot be the name"):
            act()


def test_a_prefix_cannot_leave_the_state_either(state):
    for prefix in ("../", "/etc/", "a/../../"):
        with pytest.raises(InputError, match="cannot be the name"):
            state.names(prefix)


def test_the_environment_says_where_it_is(tmp_path, monkeypatch):
    assert State.from_environment() is None
    monkeypatch.setenv(STATE_VARIABLE, "")
    assert State.from_environment() is None
    monkeypatch.setenv(STATE_VARIABLE, "relative/state")
    assert State.from_environment().folder == tmp_path / "relative" / "state"


def test_a_place_that_cannot_be_used_is_one_sentence_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"/file/state.*cannot be made .*; set HEADSTART_STATE to one that can"):
        State(str(tmp_path / "file" / "state"))
    with pytest.raises(InputError, match="HEADSTART_STATE is gs://bucket, which is neither"):
        State("gs://bucket")


# S3


@pytest.fixture
def store(monkeypatch, tmp_path):
    """Answers in place of S3, each for one request and only in their order."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = boto3.Session().client("s3", region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="no")
    monkeypatch.setattr(s3, "client", lambda: client)
    with Stubber(client) as answers:
        yield answers
        answers.assert_no_pending_responses()


def test_in_s3_names_are_keys_below_the_prefix(tmp_path, monkeypatch):
    objects: dict[tuple[str, str], bytes] = {}

    class Client:
        def upload_fileobj(self, file, bucket, key):
            objects[bucket, key] = file.read()

        def download_file(self, bucket, key, path):
            Path(path).write_bytes(objects[bucket, key])

        def delete_object(self, Bucket, Key):
            del objects[Bucket, Key]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(s3, "client", Client)
    state = State("s3://bucket/team/state/")
    put(state, "speed/a.json", b"content")
    assert objects == {("bucket", "team/state/speed/a.json"): b"content"}
    assert got(state, "speed/a.json", tmp_path) == b"content"
    state.remove("speed/a.json")
    assert objects == {}
    assert files(state.folder) == []


def test_in_s3_what_is_not_there_is_not_got(store, tmp_path):
    store.add_client_error("head_object", "404", http_status_code=404)
    assert got(State("s3://bucket/state"), "speed/a.json", tmp_path) is None


def test_in_s3_names_are_listed_with_their_times(store):
    state = State("s3://bucket/state")
    listed = {
        "Contents": [
            {"Key": "state/speed/b.json", "Size": 1, "ETag": '"etag"', "LastModified": WRITTEN},
            {"Key": "state/speed/a.json", "Size": 1, "ETag": '"etag"', "LastModified": WRITTEN},
            {"Key": "state/speed/what else", "Size": 1, "ETag": '"etag"', "LastModified": WRITTEN},
        ]
    }
    for _ in range(3):
        store.add_response("list_objects_v2", listed, {"Bucket": "bucket", "Prefix": "state/speed/"})
    assert state.names("speed/") == ["speed/a.json", "speed/b.json"]
    assert state.names_before("speed/a", WRITTEN.timestamp() + 1) == ["speed/a.json"]
    assert state.names_before("speed/", WRITTEN.timestamp()) == []
    store.add_response("list_objects_v2", {}, {"Bucket": "bucket", "Prefix": "state/speed/"})
    assert state.names("speed/") == []
    store.add_response("list_objects_v2", {}, {"Bucket": "bucket", "Prefix": "state/"})
    assert state.names() == []


def test_in_s3_what_the_store_refuses_is_a_sentence(store, tmp_path):
    store.add_client_error("put_object", "AccessDenied", http_status_code=403)
    with pytest.raises(InputError, match="S3 refuses access to s3://bucket/state/a"):
        put(State("s3://bucket/state"), "a", b"content")


def test_for_s3_there_is_a_local_folder_that_one_user_shares_and_others_cannot_lay_out(store, tmp_path):
    folder = State("s3://bucket/state").folder
    assert folder == State("s3://bucket/state/").folder
    assert folder != State("s3://bucket/other").folder
    assert folder.is_relative_to(tmp_path)
    (owner,) = [path for path in folder.parents if path.parent == tmp_path]
    assert owner.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    owner.rename(tmp_path / "elsewhere")
    owner.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="belongs to somebody else; remove it, or set TMPDIR"):
        _ = State("s3://bucket/state").folder
