import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from headstart.errors import HeadstartError
from headstart.tracking import runs
from headstart.tracking.client import connect
from headstart.tracking.names import PARENT_RUN, PIPELINE_RUN, ROLE
from headstart.tracking.runs import child_run, end_with_steps, experiment_named, new_parent, parent_run, step_run


@pytest.fixture
def experiment(client) -> str:
    return experiment_named(client, "pets")


@pytest.fixture
def parent(client, experiment, monkeypatch):
    """The parent that the local runner made."""
    run = new_parent(client, experiment, name="pets", pipeline_run="local-1")
    monkeypatch.setenv("HEADSTART_PARENT_RUN_ID", run.id)
    return run


def runs_in(client, experiment):
    return list(client.search_runs([experiment]))


def test_a_step_becomes_a_child_of_the_parent_that_the_environment_names(client, parent):
    with step_run("another-name", "finetune", role="target", tags={"headstart.strategy": "full"}) as run:
        assert client.get_run(run.id).info.status == "RUNNING"
    record = client.get_run(run.id)
    assert (run.parent_id, record.data.tags[PARENT_RUN]) == (parent.id, parent.id)
    assert (record.info.run_name, record.info.status) == ("finetune", "FINISHED")
    assert record.info.experiment_id == parent.experiment_id
    assert (record.data.tags[ROLE], record.data.tags["headstart.strategy"]) == ("target", "full")


@pytest.mark.parametrize(("problem", "status"), [(RuntimeError("no luck"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_step_that_fails_or_is_interrupted_says_so_and_its_error_is_not_swallowed(client, parent, problem, status):
    with pytest.raises(type(problem)), step_run("pets", "finetune") as run:
        raise problem
    assert client.get_run(run.id).info.status == status


def test_a_step_that_is_terminated_ends_as_killed_and_exits(client, parent):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit, step_run("pets", "finetune") as run:
        signal.raise_signal(signal.SIGTERM)
    assert exit.value.code == 128 + signal.SIGTERM
    assert client.get_run(run.id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("injected", [False, True], ids=["own run", "injected run"])
@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_however_a_step_ends_its_epochs_are_in_the_record(client, parent, monkeypatch, end, injected):
    if injected:
        monkeypatch.setenv("MLFLOW_RUN_ID", child_run(parent, "task", {}).id)

    def train(run):
        for epoch in range(1, 6):
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
        if end is SystemExit:
            signal.raise_signal(signal.SIGTERM)
        raise end

    with pytest.raises(end), step_run("pets", "finetune") as run:
        train(run)
    assert [m.step for m in client.get_metric_history(run.id, "train/loss")] == [1, 2, 3, 4, 5]


def test_after_a_flush_every_epoch_is_in_the_record(client, parent):
    with step_run("pets", "finetune") as run:
        for epoch in range(1, 30):
            run.log_epoch(epoch, {"train/loss": 1 / epoch, "val/loss": 2 / epoch})
        run.flush()
        for name in ("train/loss", "val/loss"):
            assert len(client.get_metric_history(run.id, name)) == 29


def test_a_step_whose_epoch_the_server_refuses_fails_and_says_why(client, parent):
    with pytest.raises(HeadstartError, match=r"refused: Invalid value .*bad"), step_run("pets", "finetune") as run:
        run.log_epoch(1, {"bad\tname": 1.0})
    assert client.get_run(run.id).info.status == "FAILED"


def test_a_refused_epoch_does_not_hide_why_the_step_failed(client, parent, caplog):

    def train(run):
        run.log_epoch(1, {"bad\tname": 1.0})
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"), step_run("pets", "finetune") as run:
        train(run)
    assert "refused" in caplog.text
    assert client.get_run(run.id).info.status == "FAILED"


def test_a_metric_that_is_not_known_is_left_out(client, parent):
    parent.log_metrics({"probe/accuracy": None, "time/seconds": 2})
    assert client.get_run(parent.id).data.metrics == {"time/seconds": 2}


def test_a_metric_that_is_no_number_or_infinite_is_kept_as_no_number(client, parent):
    with step_run("pets", "finetune") as run:
        run.log_metrics({"test/ece": math.nan, "val/loss": -math.inf, "time/seconds": 2})
    metrics = client.get_run(run.id).data.metrics
    assert (math.isnan(metrics["test/ece"]), math.isnan(metrics["val/loss"]), metrics["time/seconds"]) == (
        True,
        True,
        2,
    )


def test_a_request_for_a_run_that_is_sent_twice_makes_one(client, experiment):
    class CutOffClient(MlflowClient):
        """Its connection breaks before the first answer comes, so that it asks again."""

        def create_run(self, *arguments, **named):
            super().create_run(*arguments, **named)
            return super().create_run(*arguments, **named)

    parent = new_parent(CutOffClient(), experiment, name="pets", pipeline_run="run-a")
    child = child_run(parent, "finetune", {})
    assert {run.info.run_id for run in runs_in(client, experiment)} == {parent.id, child.id}


def test_a_step_that_was_killed_outright_is_ended_with_its_pipeline_run(client, experiment, parent):
    killed, done = child_run(parent, "finetune", {}), child_run(parent, "evaluate", {})
    other = child_run(new_parent(client, experiment, name="pets", pipeline_run="local-2"), "finetune", {})
    client.set_terminated(done.id, "FINISHED")
    end_with_steps(parent, "FAILED")
    status = {run.info.run_id: run.info.status for run in runs_in(client, experiment)}
    assert [status[run.id] for run in (parent, killed, done, other)] == ["FAILED", "KILLED", "FINISHED", "RUNNING"]


def test_the_run_that_kfp_injected_is_adopted_and_left_for_kfp_to_end(client, experiment, monkeypatch):
    plugin_parent = new_parent(client, experiment, name="kfp", pipeline_run="kfp-1")
    injected = client.create_run(experiment, tags={PARENT_RUN: plugin_parent.id})
    monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
    with step_run("pets", "finetune", role="target") as run:
        pass
    record = client.get_run(injected.info.run_id)
    assert (run.id, run.parent_id) == (injected.info.run_id, plugin_parent.id)
    assert (record.info.status, record.info.run_name) == ("RUNNING", "finetune")
    assert record.data.tags[ROLE] == "target"
    assert len(runs_in(client, experiment)) == 2


def test_an_injected_run_is_taken_once_and_further_runs_of_the_step_are_its_siblings(client, experiment, monkeypatch):
    plugin_parent = new_parent(client, experiment, name="kfp", pipeline_run="kfp-1")
    injected = client.create_run(experiment, tags={PARENT_RUN: plugin_parent.id})
    monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
    with step_run("pets", "scratch") as first, step_run("pets", "classical") as second:
        assert first.id == injected.info.run_id != second.id
        assert second.parent_id == plugin_parent.id


def test_the_parent_of_an_injected_run_is_marked_as_the_pipeline_runs_parent(client, experiment, monkeypatch):
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    plugin_parent = client.create_run(experiment, run_name="kfp").info.run_id
    monkeypatch.setenv("KFP_RUN_ID", "kfp-1")
    for name in ("prepare-data", "finetune"):
        injected = client.create_run(experiment, tags={PARENT_RUN: plugin_parent})
        monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
        with step_run("pets", name) as run:
            assert run.parent_id == plugin_parent
    assert client.get_run(plugin_parent).data.tags[PIPELINE_RUN] == "kfp-1"
    # So does a step that the plugin gave no run.
    monkeypatch.delenv("HEADSTART_PARENT_RUN_ID")
    assert parent_run(client, "pets").id == plugin_parent


def test_an_injected_run_that_fails_does_not_swallow_the_error(client, experiment, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run(experiment).info.run_id)
    with pytest.raises(RuntimeError, match="no luck"), step_run("pets", "finetune"):
        raise RuntimeError("no luck")


def test_an_injected_run_that_does_not_exist_is_one_clear_error(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "feed" * 8)
    with pytest.raises(HeadstartError, match=r"refused.*feedfeed"), step_run("pets", "finetune"):
        pass


def test_steps_of_one_kfp_run_share_a_parent_and_another_kfp_run_has_its_own(client, monkeypatch):
    # One step at a time: there is nobody to wait for.
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    parents = []
    for kfp_run in ("run-a", "run-a", "run-b"):
        monkeypatch.setenv("KFP_RUN_ID", kfp_run)
        with step_run("pets", "prepare-data") as run:
            parents.append(run.parent_id)
    assert parents[0] == parents[1] != parents[2]
    assert client.get_run(parents[0]).data.tags[PIPELINE_RUN] == "run-a"


def test_steps_that_start_together_agree_on_one_parent(client, experiment, monkeypatch):
    monkeypatch.setenv("KFP_RUN_ID", "run-a")
    start = threading.Barrier(4)

    def step(_):
        own = connect()
        start.wait()
        return parent_run(own, "pets").id

    with ThreadPoolExecutor(4) as pool:
        agreed = set(pool.map(step, range(4)))
    assert {run.info.run_id for run in runs_in(client, experiment)} == agreed
    assert len(agreed) == 1


def test_a_step_whose_parent_takes_long_to_be_written_agrees_with_one_that_was_quicker(client, experiment, monkeypatch):
    monkeypatch.setenv("KFP_RUN_ID", "run-a")
    looked, quick_is_done = threading.Event(), threading.Event()

    class SlowClient(MlflowClient):
        """Reaches a server that is slow to write; the run's start is when it was asked for."""

        def create_run(self, experiment_id, **named):
            asked = int(time.time() * 1000)
            looked.set()
            quick_is_done.wait(timeout=0.3)
            return super().create_run(experiment_id, start_time=asked, **named)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(parent_run, SlowClient(), "pets")
        assert looked.wait(timeout=60)
        quick = parent_run(client, "pets")
        quick_is_done.set()
    assert slow.result().id == quick.id
    assert [run.info.run_id for run in runs_in(client, experiment)] == [quick.id]


def test_of_parents_that_were_made_at_once_every_step_takes_the_earliest(client, experiment, monkeypatch):
    monkeypatch.setenv("KFP_RUN_ID", "run-a")
    made = [client.create_run(experiment, start_time=1000 + n, tags={PIPELINE_RUN: "run-a"}) for n in (5, 3, 4)]
    assert {parent_run(client, "pets").id for _ in range(2)} == {made[1].info.run_id}


def test_a_step_that_knows_no_pipeline_run_says_what_to_set(client):
    with pytest.raises(HeadstartError, match="none of MLFLOW_RUN_ID, HEADSTART_PARENT_RUN_ID and KFP_RUN_ID"):
        parent_run(client, "pets")


def test_without_an_address_a_step_fails_at_once(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(HeadstartError, match="MLFLOW_TRACKING_URI is not set"), step_run("pets", "finetune"):
        pytest.fail("the step must not start")


def test_an_experiment_is_made_once_also_by_steps_that_start_together(client):
    start = threading.Barrier(4)

    def make(_):
        own = connect()
        start.wait()
        return experiment_named(own, "birds")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1


def test_a_deleted_experiment_is_not_written_to(client, experiment):
    client.delete_experiment(experiment)
    with pytest.raises(HeadstartError, match="'pets' was deleted; restore it"):
        experiment_named(client, "pets")


def test_what_is_logged_is_in_the_record(client, parent, tmp_path):
    (tmp_path / "report.html").write_text("<p>")
    with step_run("pets", "finetune") as run:
        run.log_params({"freeze": None, "split": {"train": 0.5, "of": {"what": "x"}}, "long": "y" * 9000})
        run.log_params({f"p{n}": n for n in range(250)})
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"train/loss": 1 / epoch, "val/accuracy": 0.1 * epoch})
        run.set_tags({"headstart.chosen": "true"})
        run.set_tags({"headstart.chosen": "false"})
        run.log_artifact(tmp_path / "report.html", "pages")
    data = client.get_run(run.id).data
    assert (data.params["freeze"], data.params["split.train"], data.params["split.of.what"]) == ("None", "0.5", "x")
    assert (data.params["long"], data.params["p249"]) == ("y" * 6000, "249")
    assert [(m.step, m.value) for m in client.get_metric_history(run.id, "train/loss")] == [
        (1, 1),
        (2, 1 / 2),
        (3, 1 / 3),
    ]
    assert data.tags["headstart.chosen"] == "false"
    assert [file.path for file in client.list_artifacts(run.id, "pages")] == ["pages/report.html"]
