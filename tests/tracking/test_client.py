import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import traceback
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest
import requests

from headstart.errors import HeadstartError, InputError
from headstart.tracking import client as module
from headstart.tracking import mlflow_settings
from headstart.tracking.client import await_server, connect, explained, reach


@pytest.fixture
def nobody(monkeypatch) -> str:
    """An address that nothing answers at, where MLflow's client asks once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        # Set first, so that what is exported is taken back after the test.
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
    return address


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_without_an_address_there_is_one_clear_error_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeadstartError, match="MLFLOW_TRACKING_URI is not set"):
        connect()
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_mlflow_does_not_understand_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://nowhere")
    with pytest.raises(HeadstartError, match="gopher") as refusal:
        connect()
    assert "\n" not in str(refusal.value)


def test_what_mlflow_refuses_is_said_in_its_own_words(client):
    with pytest.raises(HeadstartError, match=r"MLflow at sqlite:.* refused: .*no-such-run"), explained():
        client.get_run("no-such-run")


def test_a_server_that_does_not_answer_is_one_clear_error_before_and_during_the_work(nobody):
    with pytest.raises(InputError, match=rf"http://{nobody} does not answer .*refused.*MLFLOW_TRACKING_URI"):
        reach(f"http://{nobody}")
    client = connect()
    sentence = rf"http://{nobody} did not answer .*refused.*MLFLOW_TRACKING_URI"
    with pytest.raises(HeadstartError, match=sentence) as error, explained():
        client.get_run("a" * 32)
    assert "\n" not in str(error.value)
    assert "HTTPConnection" not in str(error.value)


def test_an_upload_that_the_server_refuses_is_one_clear_error(nobody):
    refusal = requests.HTTPError("403 Client Error: Forbidden. Response text: <html>\n<p>No.")
    with (
        pytest.raises(
            HeadstartError, match=rf"MLflow at http://{nobody} refused: 403 Client Error: Forbidden"
        ) as error,
        explained(),
    ):
        raise refusal
    assert "\n" not in str(error.value)


def test_a_password_in_the_address_is_used_and_never_shown(nobody, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:canary%21@{nobody}")
    client = connect()
    assert client.tracking_uri == os.environ["MLFLOW_TRACKING_URI"] == f"http://{nobody}"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "canary!")
    with pytest.raises(HeadstartError) as error, explained():
        client.get_run("a" * 32)
    assert "canary" not in "".join(traceback.format_exception(error.value)) + caplog.text


def test_an_address_that_is_none_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:canary@[::1")
    for action in (connect, lambda: reach(os.environ["MLFLOW_TRACKING_URI"])):
        with pytest.raises(HeadstartError, match="MLFLOW_TRACKING_URI") as error:
            action()
        assert "canary" not in str(error.value)


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(nobody, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary\nX-Other: 1")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_TOKEN holds a line break") as refusal:
        connect()
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("name", ["[::1", "host℀"])
def test_an_address_that_python_cannot_read_is_refused_without_its_password(monkeypatch, name):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:canary@{name}")
    with pytest.raises(HeadstartError, match="MLFLOW_TRACKING_URI is not an address") as refusal:
        connect()
    assert "canary" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("logger", ["mlflow.utils.rest_utils", "headstart.tracking.client"])
def test_what_a_server_says_through_a_log_is_no_command_to_the_terminal(nobody, logger, capsys):
    """Through MLflow's own handler and Python's last one; pytest's are taken away."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        connect()
        logging.getLogger(logger).warning("Response is not a valid JSON object: %s", "\x1b[2J\x1b]0;owned\x07\x9b31m")
    finally:
        root.handlers = handlers
    written = capsys.readouterr().err
    assert "Response is not a valid JSON object: �[2J" in written
    assert all(each.isprintable() or each == "\n" for each in written)


def test_a_server_that_is_starting_is_waited_for_with_one_line_in_the_log(nobody, monkeypatch, caplog):
    servers = []

    def sleep(seconds):
        """Time passes: at its third second the server is there."""
        sleep.seconds = getattr(sleep, "seconds", 0) + 1
        if sleep.seconds == 3:
            servers.append(HTTPServer(("127.0.0.1", int(nobody.partition(":")[2])), Healthy))
            threading.Thread(target=servers[0].serve_forever, daemon=True).start()

    monkeypatch.setattr(module.time, "sleep", sleep)
    await_server(f"http://{nobody}")
    servers[0].shutdown()
    servers[0].server_close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"http://{nobody} does not answer" in caplog.text
    assert "Waiting" in caplog.text


def test_a_server_that_does_not_come_back_is_not_waited_for_forever(nobody, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0)
    with pytest.raises(HeadstartError, match=r"does not answer .*MLFLOW_TRACKING_URI.* waited 0 seconds"):
        await_server(f"http://{nobody}")


def test_a_store_without_a_server_is_not_waited_for():
    await_server("sqlite:///nowhere.db")


def test_an_outage_is_one_line_in_the_log_however_often_requests_are_tried_again(nobody, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    client = connect()
    monkeypatch.setattr(mlflow_settings._outages, "_last", -float("inf"))
    for _ in range(2):
        with pytest.raises(HeadstartError), explained():
            client.get_run("a" * 32)
    assert len(caplog.records) == 1
    assert "A server does not answer ([Errno" in caplog.text


class Failing(BaseHTTPRequestHandler):
    """A server whose database is gone: it lives, and answers every question with an error."""

    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def failing(nobody):
    """The address of a server that answers every question with an error."""
    with HTTPServer(("127.0.0.1", int(nobody.partition(":")[2])), Failing) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield nobody
        server.shutdown()


def test_a_server_that_answers_with_errors_of_its_own_is_one_clear_error_before_the_work(failing):
    with pytest.raises(InputError, match=rf"http://{failing} answers with status 503 .*MLFLOW_TRACKING_URI") as error:
        reach(f"http://ann:canary@{failing}")
    assert "canary" not in str(error.value)


def test_a_server_that_answers_with_errors_of_its_own_is_one_line_in_the_log_while_it_is_asked_again(
    failing, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr(mlflow_settings._outages, "_last", -float("inf"))
    client = connect()
    with pytest.raises(HeadstartError) as error, explained():
        client.get_run("a" * 32)
    assert "\n" not in str(error.value)
    assert [record.getMessage() for record in caplog.records] == [
        "A server answers with status 503; trying again for some minutes."
    ]


def test_a_database_that_fails_on_the_way_is_one_clear_error_and_no_sql_in_the_log(client, tmp_path, caplog):
    # Behind what has been read already.
    with (tmp_path / "mlflow.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * ((tmp_path / "mlflow.db").stat().st_size - file.tell()))
    with pytest.raises(HeadstartError, match=r"mlflow\.db is damaged; restore it from a backup") as error, explained():
        client.search_registered_models()
    assert "\n" not in str(error.value)
    assert "SELECT" not in str(error.value) + caplog.text


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        # Of MLflow 1.0, and of none yet.
        (
            "451aebb31d03",
            "was written by an MLflow older than {}, .* run mlflow db upgrade sqlite:///{}/mlflow.db to",
        ),
        ("0123456789ab", "was written by an MLflow newer than {}, .*\\(pip install --upgrade mlflow"),
    ],
)
def test_a_record_of_another_release_of_mlflow_is_told_from_an_older_or_a_newer_one(
    client, tmp_path, monkeypatch, revision, said
):
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    # MLflow keeps what it has opened.
    (tmp_path / "copied").mkdir()
    shutil.copy(database, tmp_path / "copied")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/copied/mlflow.db")
    with pytest.raises(HeadstartError, match=said.format(mlflow.__version__, tmp_path / "copied")) as error:
        connect()
    assert "\n" not in str(error.value)


def test_a_password_in_an_address_that_mlflow_refuses_is_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://ann:canary@127.0.0.1:9/mlflow")
    with pytest.raises(HeadstartError, match=r"ftp://127\.0\.0\.1:9") as error:
        connect().search_registered_models()
    assert "canary" not in str(error.value)


def test_nothing_is_unpickled_and_no_usage_data_is_sent():
    code = (
        "import os\n"
        "from headstart.tracking.client import connect\n"
        "connect()\n"
        "print(os.environ['MLFLOW_ALLOW_PICKLE_DESERIALIZATION'], os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "false true\n"


def test_to_import_the_client_changes_nothing_in_the_process():
    code = (
        "import gc, logging, os\n"
        "before = dict(os.environ)\n"
        "import headstart.tracking.client, headstart.tracking.runs, headstart.tracking.registry\n"
        "assert dict(os.environ) == before\n"
        "assert not logging.getLogger('urllib3.util.retry').filters\n"
        "assert gc.get_freeze_count() == 0\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_artifacts_go_through_the_server_unless_the_user_says_otherwise():
    program = (
        "import os\n"
        "from headstart.tracking.mlflow_settings import configure_mlflow\n"
        "configure_mlflow()\n"
        "print(*(os.environ[f'MLFLOW_ENABLE_PROXY_MULTIPART_{way}'] for way in ('DOWNLOAD', 'UPLOAD')))"
    )
    plain = {key: value for key, value in os.environ.items() if "MULTIPART" not in key}
    chosen = {**plain, "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true"}
    for environment, expected in ((plain, "false false"), (chosen, "true false")):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
