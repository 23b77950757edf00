"""MLflow's server for the page of a workspace, as it is started."""

import socket

import pytest

from headstart.errors import HeadstartError
from headstart_pipelines.ui import serve

SERVER = """
import os, pathlib
pathlib.Path("jobs").write_text(os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"])
"""


@pytest.mark.parametrize(("wanted", "expected"), [(None, "false"), ("true", "true")])
def test_its_eight_processes_for_jobs_run_only_where_they_are_wanted(wanted, expected, tmp_path, monkeypatch):
    (tmp_path / "mlflow").mkdir()
    # A package, since a folder alone would come after the real one.
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", raising=False)
    if wanted:
        monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", wanted)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What stands in for the server ends at once.
    with pytest.raises(HeadstartError, match=r"did not start; its log is .*ui\.log"):
        serve("sqlite:///nowhere.db", port, tmp_path / "ui.log", lambda: None)
    assert (tmp_path / "jobs").read_text() == expected
