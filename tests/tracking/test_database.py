"""A record in one SQLite file."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from headstart.errors import InputError
from headstart.tracking import database
from headstart.tracking.runs import experiment_named


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> Path:
    """An empty store of this test's own."""
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture(scope="module")
def workspace(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a record of one run and a registered version, and their artifacts; tests copy it."""
    home = tmp_path_factory.mktemp("workspaces") / "first"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    client = MlflowClient(database.address(home / "mlflow.db"))
    run = client.create_run(experiment_named(client, "pets", artifact_location=(home / "mlartifacts").as_uri()))
    # Not by MLflow, which remembers for each run of a process where its artifacts are.
    folder = home / "mlartifacts" / run.info.run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    client.create_registered_model("pets-source")
    client.create_model_version("pets-source", run.info.artifact_uri, run.info.run_id)
    return home


def addresses(folder: Path) -> list[str]:
    """The addresses of artifacts in the record of `folder`."""
    client = MlflowClient(database.address(folder / "mlflow.db"))
    (run,) = client.search_runs([client.get_experiment_by_name("pets").experiment_id], max_results=1)
    (version,) = client.search_model_versions("name = 'pets-source'")
    return [client.get_experiment_by_name("pets").artifact_location, run.info.artifact_uri, version.source]


@pytest.mark.parametrize("decodes", [True, False], ids=["SQLAlchemy 2.1", "SQLAlchemy 2.0"])
@pytest.mark.parametrize("name", ["plain", "a x=1#b%41@é", "50%", "100%3F", "#1"])
def test_a_store_is_found_again_by_its_address_whatever_its_folder_is_called(name, decodes, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "DECODES", decodes)
    path = tmp_path / name / "mlflow.db"
    assert database.file_of(database.address(path)) == path


def test_a_question_mark_in_a_path_is_quoted_or_where_sqlalchemy_knows_no_quotes_refused(tmp_path, monkeypatch):
    path = tmp_path / "what?" / "mlflow.db"
    monkeypatch.setattr(database, "DECODES", True)
    assert database.file_of(database.address(path)) == path

    monkeypatch.setattr(database, "DECODES", False)
    with pytest.raises(
        InputError, match=r"what\? has one; name another folder with --workspace, or install SQLAlchemy"
    ):
        database.address(tmp_path / "what?")


def test_two_that_make_the_same_store_at_once_both_find_it_and_it_lies_nowhere_else(made_twice, tmp_path):
    (workspace,) = (made_twice / "place").iterdir()

    assert (made_twice / "errors.txt").read_text() == ""
    assert {path.name for path in workspace.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    assert {path.name for path in made_twice.iterdir()} == {"place", "errors.txt"}
    own = shutil.copytree(workspace, tmp_path / workspace.name)
    database.examine(own / "mlflow.db", writing=True)
    client = MlflowClient(database.address(own / "mlflow.db"))
    assert experiment_named(client, "pets", artifact_location=(own / "mlartifacts").as_uri()) == "1"
    assert [path.name for path in tmp_path.iterdir()] == [workspace.name]


def garbage(store: Path) -> None:
    store.write_bytes(b"not a database" * 100)


def torn(store: Path) -> None:
    content = store.read_bytes()
    store.write_bytes(content[:8192] + b"\xff" * 65536 + content[8192 + 65536 :])


def truncated(store: Path) -> None:
    store.write_bytes(store.read_bytes()[:20000])


def of_another_program(store: Path) -> None:
    store.unlink()
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (garbage, ["is damaged", "restore it from a backup", "--workspace"]),
        (torn, ["is damaged", "restore it from a backup"]),
        (truncated, ["is damaged", "restore it from a backup"]),
        (of_another_program, ["not a record", "--workspace"]),
    ],
)
def test_a_file_that_is_no_whole_record_gets_one_sentence(spoil: Callable[[Path], None], words, store):
    spoil(store)
    with pytest.raises(InputError) as refusal:
        database.examine(store, writing=True)
    for word in [str(store), *words]:
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_record_that_another_process_locks_gets_one_sentence(store, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0)
    holder = sqlite3.connect(store, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match=r"mlflow\.db is locked by another process; wait"):
        database.examine(store)
    holder.close()
    database.examine(store, writing=True)


@pytest.fixture
def read_only(empty_database: Path):
    """A store that this process may read and not write; root, who may write everything, is somebody else meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(shutil.copy(empty_database, folder))
        store.chmod(0o444)
        Path(folder).chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        yield store
        os.seteuid(before)
        Path(folder).chmod(0o700)


def test_a_record_that_may_not_be_written_gets_one_sentence_where_it_must_and_is_read_otherwise(read_only):
    database.examine(read_only)
    with pytest.raises(InputError, match=r"mlflow\.db cannot be written; .*--workspace"):
        database.examine(read_only, writing=True)


def test_a_copied_workspace_finds_its_artifacts_at_home_and_leaves_the_original_alone(workspace, tmp_path):
    copy = shutil.copytree(workspace, tmp_path / "copy of 100%")
    before = addresses(workspace)

    database.settle(copy / "mlflow.db", copy / "mlartifacts")

    assert addresses(copy) == [place.replace(workspace.as_uri(), copy.as_uri()) for place in before]
    assert addresses(workspace) == before
    client = MlflowClient(database.address(copy / "mlflow.db"))
    (run,) = client.search_runs(["1"])
    client.log_text(run.info.run_id, "new", "note.txt")
    assert [path.name for path in workspace.rglob("*.txt")] == []
    assert len(list(copy.rglob("note.txt"))) == 1


def test_a_moved_workspace_finds_its_artifacts_at_home(workspace, tmp_path):
    moved = shutil.copytree(workspace, tmp_path / "then")
    database.settle(moved / "mlflow.db", moved / "mlartifacts")
    moved = moved.rename(tmp_path / "now")

    database.settle(moved / "mlflow.db", moved / "mlartifacts")

    assert all(place.startswith(moved.as_uri()) for place in addresses(moved))


def test_addresses_stay_where_the_same_artifacts_are_seen_under_another_path(workspace, tmp_path):
    before = addresses(workspace)
    (tmp_path / "link").symlink_to(workspace)

    database.settle(tmp_path / "link" / "mlflow.db", tmp_path / "link" / "mlartifacts")

    assert addresses(workspace) == before


def test_addresses_stay_where_the_artifacts_did_not_come_along(workspace, tmp_path):
    shutil.copy(workspace / "mlflow.db", tmp_path)

    database.settle(tmp_path / "mlflow.db", tmp_path / "mlartifacts")

    assert addresses(tmp_path) == addresses(workspace)
