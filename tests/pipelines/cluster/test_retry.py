"""What failed is started again, what goes is terminated, and MLflow's record says the same as the server."""

import shutil

import pytest

from headstart.tracking.client import connect
from headstart.tracking.runs import child_run, experiment_named, new_parent

# Retry


def test_a_failed_run_is_retried_and_followed_to_its_end(kfp, submit, cli):
    kfp.fails = "evaluate"
    assert submit("--wait").code == 1
    run_id = kfp.runs[0]["run_id"]

    answer = cli("retry", run_id, "--wait")

    assert answer.code == 0, answer.err
    assert [request.parameters["run_id"] for request in kfp.called("run_service_retry_run")] == [run_id]
    assert answer.out.splitlines()[-1] == "  run succeeded"


def test_what_has_not_failed_is_not_retried(kfp, cli, run_id):
    answer = cli("retry", run_id)

    assert answer.code == 2
    assert "has not failed (it is pending)" in answer.err
    assert kfp.called("run_service_retry_run") == []


def test_what_fails_is_started_again_as_often_as_was_said_and_told(kfp, submit):
    kfp.fails, kfp.failures = "evaluate", 2

    answer = submit("--wait", "--retries", "3")

    assert answer.code == 0, answer.err
    assert len(kfp.called("run_service_retry_run")) == 2
    said = "What failed is started again, from its checkpoint if it has one: retry {} of 3."
    assert [said.format(number) in answer.out for number in (1, 2, 3)] == [True, True, False]


def test_what_goes_on_failing_ends_as_failed_after_its_retries(kfp, submit):
    kfp.fails, kfp.failures = "evaluate", 9

    answer = submit("--wait", "--retries", "2")

    assert answer.code == 1
    assert "failed in 'evaluate'" in answer.err
    assert len(kfp.called("run_service_retry_run")) == 2


def test_a_run_that_somebody_terminates_is_not_started_again(kfp, submit, cli, clock):
    def terminate():
        if not kfp.called("run_service_terminate_run"):
            assert cli("terminate", kfp.runs[0]["run_id"]).code == 0

    clock.during = terminate

    answer = submit("--wait", "--retries", "2")

    assert answer.code == 1
    assert "was terminated" in answer.err
    assert kfp.called("run_service_retry_run") == []


def test_retries_need_somebody_who_waits(kfp, submit):
    answer = submit("--retries", "2")

    assert answer.code == 2
    assert "add --wait" in answer.err
    assert kfp.requests == []


# Terminate


def test_a_run_is_terminated_and_not_a_second_time(kfp, cli, run_id):
    answer = cli("terminate", run_id)
    assert answer.code == 0
    assert f"is terminated. `headstart retry {run_id}` goes on with it." in answer.out

    answer = cli("terminate", run_id)

    assert answer.code == 2
    assert "has ended already (terminated)" in answer.err
    assert len(kfp.called("run_service_terminate_run")) == 1


def test_a_run_that_succeeds_before_it_is_terminated_is_said_to_have(kfp, cli, run_id):
    kfp.looked = lambda workflow: setattr(workflow, "end", "SUCCEEDED" if workflow.end else None)

    answer = cli("terminate", run_id)

    assert answer.code == 0
    assert "succeeded before that." in answer.out


def test_a_run_that_was_lost_with_its_schedule_is_not_terminated(kfp, cli, run_id):
    kfp.runs[0]["recurring_run_id"] = "of a schedule that is deleted"

    answer = cli("terminate", run_id)

    assert answer.code == 2
    assert "was deleted with its schedule" in answer.err
    assert kfp.called("run_service_terminate_run") == []


# The record


@pytest.fixture
def record(kfp, run_id, once, tmp_path, monkeypatch):
    """MLflow's record of the submitted run, as its steps began it: `record()` tells the statuses by name."""
    store = once("empty-mlflow", lambda folder: _empty_store(folder, monkeypatch))
    shutil.copy(store / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = connect()
    experiment = experiment_named(client, "digits")
    parent = new_parent(client, experiment, name="run", pipeline_run=run_id)
    child_run(parent, "pretrain", {})
    child_run(new_parent(client, experiment, name="another run", pipeline_run="another"), "another's step", {})

    def statuses():
        found = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
        assert found.pop("another run") == found.pop("another's step") == "RUNNING"
        return found

    return statuses


def _empty_store(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        connect().search_experiments()


def test_the_record_of_a_terminated_run_is_closed_though_its_last_step_never_ran(kfp, cli, run_id, record):
    cli("terminate", run_id)

    assert record() == {"run": "KILLED", "pretrain": "KILLED"}


def test_following_a_run_to_its_end_closes_its_record_and_a_retry_opens_it_again(kfp, cli, run_id, record):
    kfp.workflows[run_id].fails = "evaluate"
    assert cli("runs", run_id, "--wait").code == 1
    assert record() == {"run": "FAILED", "pretrain": "KILLED"}

    cli("retry", run_id)
    assert record()["run"] == "RUNNING"
    assert cli("runs", run_id, "--wait").code == 0
    assert record()["run"] == "FINISHED"


def test_looking_at_a_run_that_has_ended_closes_its_record_and_at_one_that_goes_leaves_it(kfp, cli, run_id, record):
    cli("runs", run_id)
    assert record() == {"run": "RUNNING", "pretrain": "RUNNING"}

    kfp.workflows[run_id].end = "SUCCEEDED"
    assert cli("runs", run_id).code == 0
    assert record() == {"run": "FINISHED", "pretrain": "KILLED"}


def test_a_run_that_was_lost_with_its_schedule_ends_in_the_record_as_killed(kfp, cli, run_id, record):
    kfp.runs[0]["recurring_run_id"] = "of a schedule that is deleted"

    cli("runs", run_id)

    assert record() == {"run": "KILLED", "pretrain": "KILLED"}


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9", "sqlite:////nowhere/mlflow.db"])
def test_a_record_that_cannot_be_reached_keeps_nobody_from_terminating(kfp, cli, run_id, monkeypatch, address):
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

    answer = cli("terminate", run_id)

    assert (answer.code, answer.err) == (0, "")
