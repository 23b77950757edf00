import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient

from headstart.errors import HeadstartError
from headstart.tracking import runs
from headstart.tracking.client import connect
from headstart.tracking.names import PARENT_RUN, PIPELINE_RUN, ROLE, STRATEGY
from headstart.tracking.runs import (
    child_run,
    close_record,
    end_with_steps,
    experiment_named,
    new_parent,
    parent_run,
    reopen_record,
    step_run,
)


@pytest.fixture
def experiment(client) -> str:
    return experiment_named(client, "pets")


@pytest.fixture
def parent(client, experiment, monkeypatch):
    """The parent that the local runner made."""
    run = new_parent(client, experiment, name="pets", pipeline_run="local-1")
    monkeypatch.setenv("HEADSTART_PARENT_RUN_ID", run.id)
    return run


@pytest.fixture
def plugin(client, experiment, monkeypatch):
    """A pipeline run that KFP's MLflow plugin keeps: `start(task)` opens the run of a task in the graph `graph`, and
    gives it to the task where the plugin injects."""
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    return Plugin(client, experiment, monkeypatch)


class Plugin:
    """Opens runs as KFP 2.17.0 does: the tag `kfp.pipeline_run_id` on the top one, a run a task, a graph and a loop."""

    def __init__(self, client, experiment, monkeypatch):
        self.client, self.experiment, self.environment = client, experiment, monkeypatch
        monkeypatch.setenv("KFP_RUN_ID", "kfp-1")
        self.top = self._run("pets-20261128-041320-c119", {"kfp.pipeline_run_id": "kfp-1"})
        self.graph = self._run("exit-handler-1", {PARENT_RUN: self.top})
        self.loop = self._run("for-loop-1", {PARENT_RUN: self.graph})

    def start(self, task, inside, *, injected=True):
        run = self._run(task, {PARENT_RUN: inside})
        # Each task is a process of its own.
        self.environment.delenv("HEADSTART_PARENT_RUN_ID", raising=False)
        if injected:
            self.environment.setenv("MLFLOW_RUN_ID", run)
        return run

    def _run(self, name, tags):
        return self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id


def status(client, experiment):
    """The status of every run, by its name."""
    return {run.info.run_name: run.info.status for run in runs_in(client, experiment)}


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


def test_a_record_is_closed_once_and_stays_as_it_ended(client, experiment, parent):
    child_run(parent, "finetune", {})
    ended = datetime(2026, 3, 1, tzinfo=UTC)
    close_record("pets", "FAILED", ended=ended)
    close_record("pets", "FAILED")
    assert status(client, experiment) == {"pets": "FAILED", "finetune": "KILLED"}
    assert client.get_run(parent.id).info.end_time == ended.timestamp() * 1000


def test_a_record_that_ended_as_failed_can_be_told_to_have_been_stopped(client, experiment, parent):
    close_record("pets", "FAILED")
    close_record("pets", "KILLED")
    assert status(client, experiment) == {"pets": "KILLED"}


def test_what_is_kept_in_a_file_keeps_its_artifacts_beside_it(client, experiment, tmp_path):
    assert client.get_experiment(experiment).artifact_location == (tmp_path / "mlartifacts").as_uri()


def test_an_experiment_keeps_its_artifacts_where_the_store_keeps_those_of_others(client, tmp_path):
    elsewhere = (tmp_path / "elsewhere").as_uri()
    experiment_named(client, "pets", artifact_location=elsewhere)
    assert client.get_experiment(experiment_named(client, "promotions")).artifact_location == elsewhere


def test_a_pipeline_run_whose_steps_wrote_nothing_has_no_record_to_close(client, monkeypatch):
    monkeypatch.setenv("KFP_RUN_ID", "run-a")
    close_record("pets", "FAILED")
    assert client.get_experiment_by_name("pets") is None
    experiment = experiment_named(client, "pets")
    close_record("pets", "FAILED")
    assert runs_in(client, experiment) == []


def test_the_record_of_another_pipeline_run_is_closed_by_its_id(client, experiment, parent):
    other = new_parent(client, experiment, name="other", pipeline_run="run-b")
    child_run(other, "finetune", {})
    close_record("pets", "KILLED", pipeline_run="run-b")
    assert status(client, experiment) == {"pets": "RUNNING", "other": "KILLED", "finetune": "KILLED"}


def test_a_retry_opens_the_record_again_when_it_is_asked_for_or_when_its_first_step_starts(
    client, experiment, monkeypatch
):
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    monkeypatch.setenv("KFP_RUN_ID", "run-a")
    parent = new_parent(client, experiment, name="pets", pipeline_run="run-a")
    close_record("pets", "FAILED")
    reopen_record("pets", "run-a")
    assert client.get_run(parent.id).info.status == "RUNNING"
    close_record("pets", "FAILED")
    with step_run("pets", "finetune") as run:
        assert (run.parent_id, client.get_run(parent.id).info.status) == (parent.id, "RUNNING")


def test_the_next_attempt_of_a_step_ends_the_one_before_it_and_no_other_steps(client, experiment, parent):
    killed = child_run(parent, "full", {ROLE: "target", STRATEGY: "full"})
    namesake = child_run(parent, "full", {ROLE: "baseline", STRATEGY: "full"})
    beside = child_run(parent, "partial", {ROLE: "target", STRATEGY: "partial"})
    elsewhere = child_run(new_parent(client, experiment, name="other", pipeline_run="x"), "full", {ROLE: "target"})
    with step_run("pets", "full", role="target", tags={STRATEGY: "full"}) as attempt:
        runs_now = {run.info.run_id: run.info.status for run in runs_in(client, experiment)}
    assert runs_now[killed.id] == "KILLED"
    assert [runs_now[run.id] for run in (attempt, namesake, beside, elsewhere)] == ["RUNNING"] * 4


def test_an_injected_run_whose_first_attempt_failed_runs_again_in_the_next(client, plugin):
    injected = plugin.start("finetune", plugin.loop)
    client.set_terminated(injected, "FAILED")
    with step_run("pets", "full"):
        assert client.get_run(injected).info.status == "RUNNING"


def test_a_killed_attempt_that_the_plugin_gave_another_run_is_ended_by_the_next(client, plugin):
    first = plugin.start("finetune", plugin.loop)
    with suppress(SystemExit), step_run("pets", "full"):
        raise SystemExit
    assert client.get_run(first).info.status == "RUNNING"
    second = plugin.start("finetune", plugin.loop)
    with step_run("pets", "full"):
        assert [client.get_run(run).info.status for run in (first, second)] == ["KILLED", "RUNNING"]


@pytest.mark.parametrize("case", ["off", "failing", "without injection", "with injection"])
def test_however_kfps_plugin_is_set_up_a_pipeline_run_has_one_record_that_ends(client, experiment, monkeypatch, case):
    """Off, it does nothing; failing, it has opened nothing either, and KFP starts the run all the same."""
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    monkeypatch.setenv("KFP_RUN_ID", "kfp-1")
    plugin = Plugin(client, experiment, monkeypatch) if "injection" in case else None
    own = {}
    for task, name in (("prepare-data", "prepare-source"), ("finetune", "full"), ("finetune-2", "partial")):
        if plugin:
            inside = plugin.loop if task.startswith("finetune") else plugin.graph
            plugin.start(task, inside, injected=case == "with injection")
        with step_run("pets", name) as run:
            own[name] = run
    if plugin:
        plugin.start("close-record", plugin.top, injected=case == "with injection")
    close_record("pets", "FINISHED")

    found = {run.info.run_id: run for run in runs_in(client, experiment)}
    (top,) = [run for run in found.values() if PARENT_RUN not in run.data.tags]
    assert top.data.tags[PIPELINE_RUN] == "kfp-1"
    assert {found[run.id].data.tags[PARENT_RUN] for run in own.values()} == {run.parent_id for run in own.values()}
    assert {run.parent_id for run in own.values()} == {top.info.run_id}
    assert plugin is None or plugin.top == top.info.run_id
    if case != "with injection":
        assert len(own) == len({run.id for run in own.values()})
    # The runs of steps that the plugin injected are its own to end; it would find none that still runs.
    ended = {run.info.status for run in found.values() if run.info.run_name not in own or case != "with injection"}
    assert ended == {"FINISHED"}


def test_below_a_plugins_run_what_a_step_left_running_is_ended_at_any_depth(client, experiment, plugin):
    plugin.start("finetune", plugin.loop)
    with suppress(SystemExit), step_run("pets", "full") as run:
        raise SystemExit
    client.set_tag(run.id, PARENT_RUN, plugin.loop)
    close_record("pets", "FINISHED")
    assert status(client, experiment) == {
        "pets-20261128-041320-c119": "FINISHED",
        "exit-handler-1": "FINISHED",
        "for-loop-1": "FINISHED",
        "full": "KILLED",
    }


def test_a_run_whose_parent_was_deleted_for_good_does_not_keep_a_record_from_being_closed(client, experiment, parent):
    client.create_run(experiment, run_name="orphan", tags={PARENT_RUN: "feed" * 8})
    close_record("pets", "FINISHED")
    assert status(client, experiment) == {"pets": "FINISHED", "orphan": "RUNNING"}


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
