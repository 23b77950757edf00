import os
from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart.version import __version__
from headstart_pipelines.health import health


def test_a_working_installation_tells_versions_device_and_room() -> None:
    lines = list(health())
    assert lines[0].startswith(f"headstart   {__version__} on Python 3.")
    assert [line.split()[0] for line in lines] == ["headstart", "libraries", "device", "temporary", "shared"]
    assert all(name in lines[1] for name in ("torch 2.", "mlflow 3.", "kfp 2."))


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setattr("tempfile.tempdir", str(missing))
    with pytest.raises(InputError, match=f"{missing} cannot be written .* set TMPDIR"):
        list(health())


def test_an_mlflow_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9") as refused:
        list(health())
    assert "secret" not in str(refused.value)
