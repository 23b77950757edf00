"""What the machine, the workspace and the server may be like: each that no command can work with gets one sentence."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from headstart.errors import HeadstartError, InputError
from headstart.tracking import database

LONG = "x" * 300


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Path:
    """A good recipe."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: two\nsource: {{data: {{uri: {images / 'digits'}, size: 8}}}}\n")
    return path


def one_sentence(answer, code: int, *words: str) -> None:
    """Whether the command said only that, without traceback or SQL."""
    assert answer.code == code
    (line,) = answer.err.splitlines()
    for word in ("headstart: ", *words):
        assert word in line, line
    for word in ("Traceback", "SELECT", "[SQL", "sqlite3.", "sqlalchemy"):
        assert word not in answer.out + answer.err


def garbage(database: Path) -> None:
    database.write_bytes(b"\x00garbage" * 1000)


def another_program(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")


COMMANDS = [
    ["check", "recipe.yaml"],
    ["run", "recipe.yaml"],
    ["compare", "two"],
    ["lineage", "two-source"],
    ["history", "two-source"],
    ["promote", "two-source"],
    ["predict", "models:/two-source/1", "."],
    ["ui"],
]


@pytest.mark.parametrize("spoil", [garbage, another_program])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_record_that_is_none_is_said_by_every_command(command, spoil, cli, recipe):
    Path("workspace").mkdir()
    spoil(Path("workspace/mlflow.db"))

    one_sentence(cli(*command, "--workspace", "workspace"), 2, "workspace/mlflow.db", "--workspace")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_record_that_another_process_locks_is_said_by_every_command(command, cli, recipe, own, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0)
    holder = sqlite3.connect(own.workspace / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    one_sentence(cli(*command, "--workspace", own.workspace), 2, "mlflow.db is locked by another process")
    holder.close()


def test_a_record_that_turns_out_damaged_on_the_way_is_one_sentence(cli, own):
    file = own.workspace / "mlflow.db"
    content = bytearray(file.read_bytes())
    with sqlite3.connect(file) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'registered_models'").fetchone()
    connection.close()
    content[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(content)

    one_sentence(cli("lineage", "digits-source", "--workspace", own.workspace), 1, "mlflow.db is damaged", "backup")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_workspace_with_a_name_that_no_folder_can_have_is_refused(command, cli, recipe):
    answer = cli(*command, "--workspace", LONG)

    assert answer.code == 2
    assert "cannot be a folder: File name too long" in answer.err.splitlines()[-1]


def test_a_workspace_that_cannot_be_made_is_refused(cli, recipe):
    Path("file").touch()

    one_sentence(
        cli("run", "recipe.yaml", "--workspace", "file/workspace"), 2, "file/workspace cannot be made", "--workspace"
    )


def test_a_folder_for_temporary_files_that_is_not_there_is_refused_before_any_step(cli, recipe, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")

    one_sentence(cli("run", "recipe.yaml", "--workspace", "workspace"), 2, "TMPDIR is /nowhere/at/all", "unset TMPDIR")
    assert not Path("workspace/logs").exists()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [(36, InputError, "a shorter one"), (28, HeadstartError, "make room"), (30, HeadstartError, "choose a place")],
)
def test_what_the_operating_system_refuses_is_one_sentence_with_a_remedy(number, kind, words, cli, monkeypatch):
    def refused(_: object) -> Iterator[str]:
        raise OSError(number, "It says so", f"/data/{LONG}")

    monkeypatch.setattr("headstart_pipelines.health.health", lambda: refused(None))

    answer = cli("check")

    one_sentence(answer, kind.exit_code, "/data/xxx", "It says so; ", words)
    assert LONG not in answer.err


def test_a_message_of_many_lines_is_cut_to_its_first(cli, monkeypatch):
    def refused() -> None:
        raise ValueError("What is wrong\n[SQL: SELECT *]\nand more")

    monkeypatch.setattr("headstart_pipelines.health.health", refused)

    one_sentence(cli("check"), 1, "ValueError: What is wrong; --debug shows where.")


# The server


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    """The address of an MLflow whose database is gone: it lives, and answers every question with status 500."""

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_server_that_answers_with_errors_of_its_own_is_said_at_once_by_every_command(
    command, cli, recipe, failing, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", failing)

    one_sentence(cli(*command), 2, failing, "answers with status 500", "MLFLOW_TRACKING_URI")


# What is said before seconds have passed


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_recipe_that_is_not_there_is_said_before_anything_heavy_is_imported(command):
    program = (
        "import sys\n"
        "from headstart_pipelines.cli import main\n"
        "try: main([sys.argv[1], 'nosuch.yaml'])\n"
        "finally: print([name for name in ('torch', 'mlflow', 'kfp', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert done.stderr == "headstart: There is no recipe at nosuch.yaml; give the path of a YAML file.\n"
