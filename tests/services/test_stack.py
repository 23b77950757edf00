"""The servers that the other tests rely on are what they claim to be."""

import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.services.stack import Stack

pytestmark = pytest.mark.services


def log_a_note(record: MlflowClient, experiment: str, tmp_path: Path) -> str:
    run = record.create_run(record.create_experiment(experiment)).info.run_id
    record.log_param(run, "colour", "green")
    (tmp_path / "note.txt").write_text(f"a note of {experiment}")
    record.log_artifact(run, str(tmp_path / "note.txt"))
    return run


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YWRtaW46cGFzc3dvcmQ="}], ids=["none", "wrong"])
def test_nobody_gets_in_without_the_password(stack: Stack, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{stack.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)  # noqa: S310


def test_a_run_lies_in_postgresql_and_its_artifact_in_s3_through_a_client_without_s3_keys(
    stack: Stack, record: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = log_a_note(record, "where things lie", tmp_path)
    with closing(stack.postgres.connect("record")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key, value FROM params WHERE run_uuid = %s", [run])
        assert cursor.fetchall() == [("colour", "green")]
    (key,) = [key for key in stack.objects() if run in key]
    assert stack.objects()[key] == b"a note of where things lie"
    assert record.get_run(run).info.artifact_uri.startswith("mlflow-artifacts:/")


def test_the_record_outlives_a_restart_of_the_server(stack: Stack, record: MlflowClient, tmp_path: Path) -> None:
    run = log_a_note(record, "before the restart", tmp_path)
    stack.restart_mlflow()
    assert record.get_run(run).data.params == {"colour": "green"}
    assert Path(record.download_artifacts(run, "note.txt")).read_text() == "a note of before the restart"
