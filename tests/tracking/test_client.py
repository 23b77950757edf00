import os
import subprocess
import sys

import pytest

from headstart.errors import HeadstartError
from headstart.tracking.client import connect, explained


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


def test_nothing_is_unpickled_and_no_usage_data_is_sent():
    code = "import headstart.tracking.client, os; print(os.environ[{!r}])"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    for variable, value in (("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false"), ("MLFLOW_DISABLE_TELEMETRY", "true")):
        command = [sys.executable, "-c", code.format(variable)]
        assert (
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == f"{value}\n"
        )
