"""A search on a cluster: trials are runs beside each other, decided on here by what their pods record."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import yaml

from headstart.errors import HeadstartError
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.searching import clock as search_clock
from headstart.searching import pods as library
from headstart.searching.inputs import Source
from headstart.searching.pods import PodTrial, Survey, read_trial
from headstart.searching.space import Candidate
from headstart.searching.study import Sent
from headstart.strategies.section import Strategy
from headstart.tracking import runs
from headstart.tracking.client import connect
from headstart.tracking.trials import QUARTER_LOSS, new_trial, search_named, search_run, trial_records
from headstart.training.section import Training
from headstart_pipelines.catalog import compile_pipeline
from headstart_pipelines.cluster.search import surveyed
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import load_profile
from tests.pipelines.cluster.backend import Pods
from tests.pipelines.cluster.conftest import IMAGE, PROFILE
from tests.pipelines.cluster.kfp_server import KfpServer
from tests.pipelines.cluster.kfp_server.store import Fault, Refused
from tests.pipelines.cluster.kfp_server.workflows import Workflow
from tests.tracking.conftest import empty_database, made_twice, open_store, quick_stores  # noqa: F401

PIN = "#sha256=" + "1" * 64
LABELS = np.arange(40) % 2
RECIPE = {
    "name": "digits",
    "source": {"candidates": [f"s3://models/good{PIN}"]},
    "target": {"data": {"uri": "s3://data/digits"}},
    "strategies": ["zero", {"name": "mine", "transfer": "full", "learning_rate": 3e-5}],
    "search": {
        "strategies": ["zero", "full"],
        "settings": {"learning_rate": {"low": 3e-5, "high": 1e-2}},
        "keep": 2,
    },
}
OPTIONS = ("--profile", PROFILE, "--image", IMAGE)


@dataclass
class PlayedPods:
    """What the pods of a search write into the record, by the parameters of their runs. A training is good if its
    learning rate is near 0.001; `at_work` is called while each is at work, `fails` says why one does, by its number."""

    kfp: KfpServer
    fails: dict[int, str] = field(default_factory=dict)
    at_work: Callable[[int, dict[str, Any], str], None] = lambda number, given, run_id: None
    tried: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def look(self, workflow: Workflow) -> None:
        """Called when somebody has looked at a run, which goes on by that."""
        run_id = next(key for key, each in self.kfp.workflows.items() if each is workflow)
        given, kind = dict(workflow.parameters), workflow.spec["pipelineInfo"]["name"]
        if workflow.at == 0 and self._is_new(run_id, "began") and kind == "trial":
            self.tried.append(given)
            self.most = max(self.most, sum(self._is_trial_at_work(key) for key in self.kfp.workflows))
            if len(self.tried) in self.fails:
                workflow.fails = "trial"
            self.at_work(len(self.tried), given, run_id)
        if workflow.is_final and self._is_new(run_id, "ended"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KFP_RUN_ID", run_id)
                if kind == "trial" and workflow.end is None:
                    self._trial(given, self.fails.get(self.tried.index(given) + 1))
                elif kind == "survey":
                    self._survey(given)

    def _is_new(self, run_id: str, event: str) -> bool:
        is_new = (run_id, event) not in self._seen
        self._seen.add((run_id, event))
        return is_new

    def _is_trial_at_work(self, run_id: str) -> bool:
        workflow = self.kfp.workflows[run_id]
        return workflow.spec["pipelineInfo"]["name"] == "trial" and not workflow.is_final

    def _survey(self, given: dict[str, Any]) -> None:
        source = Source(Candidate("s3://models/good", "convnet", 4), given["source_candidates"][0], "sha256:1")
        with runs.step_run(given["name"], "survey", role="survey") as run:
            run.log_json(library.SURVEY, Survey("sha256:data", 20, (source,), ()).to_dict())

    def _trial(self, given: dict[str, Any], reason: str | None) -> None:
        strategy = Strategy.of(given["strategy"], at="strategy")

        def attempted(*_: object) -> tuple[dict[str, float], Predictions]:
            if reason:
                raise HeadstartError(reason)
            away = abs(np.log10(getattr(strategy, "learning_rate", None) or 3e-5) + 3)
            right = float(np.clip(0.95 - 0.2 * away, 0.05, 0.95))
            probabilities = np.where(np.arange(2) == LABELS[:, None], right, 1 - right)
            held_out = Predictions(np.array([f"{n:02}" for n in range(40)]), LABELS, probabilities, ("a", "b"))
            fields = {"loss": -np.log(right), "value": right, "low": right, "high": right, "seconds": 2.0}
            return {**fields, "final_seconds": 3.0}, held_out

        sent = PodTrial(
            given["name"], given["search"], given["modality"], given["seed"], given["source"],
            given["target_data"], given["data_digest"], strategy,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "_attempted", attempted)
            try:
                library.try_in_pod(sent, Training(), Evaluation())
            except HeadstartError:
                assert reason


@pytest.fixture
def pods(kfp, empty_database, tmp_path, monkeypatch) -> PlayedPods:  # noqa: F811
    """The pods of the stand-in, and a record that they and the command share."""
    database = tmp_path / "mlflow.db"
    shutil.copy(empty_database, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr(runs, "_SETTLING_SECONDS", 0.0)
    played = PlayedPods(kfp)
    kfp.looked = played.look
    return played


@pytest.fixture
def searched(cli, tmp_path):
    """Searches RECIPE on the cluster, its sections replaced."""

    def call(*options: object, recipe: dict[str, Any] | None = None):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **(recipe or {})}))
        return cli("search", path, *OPTIONS, "--workspace", tmp_path / "workspace", *options)

    return call


def sent(kfp: KfpServer, pipeline: str) -> list[dict[str, Any]]:
    """The parameters of the runs of a pipeline."""
    return [
        dict(each.parameters) for each in kfp.workflows.values() if each.spec["pipelineInfo"]["name"] == pipeline
    ]  # fmt: skip


def sent_tasks(kfp: KfpServer, pipeline: str) -> list[str]:
    """The tasks of the first run of a pipeline, of which none lies in a graph of its own."""
    spec = next(each.spec for each in kfp.workflows.values() if each.spec["pipelineInfo"]["name"] == pipeline)
    assert not any("dag" in component for component in spec["components"].values())
    return list(spec["root"]["dag"]["tasks"])


def recorded(role: str) -> list[Any]:
    """The runs of the experiment in a role."""
    client = connect()
    experiment = client.get_experiment_by_name("digits").experiment_id
    return list(client.search_runs([experiment], f"tags.`headstart.role` = '{role}'"))


def test_trials_are_runs_of_one_package_beside_each_other_and_the_best_of_them_are_one_run_that_reads_the_test(
    kfp, pods, searched
):
    answer = searched("--trials", "9", "--at-once", "3", "--json")

    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    trials = sent(kfp, "trial")
    assert len(trials) == len(found["trials"]) == 9
    assert pods.most == 3
    assert [each["display_name"] for each in kfp.versions].count("headstart-trial") <= 1
    assert [each["strategy"]["name"] for each in trials[:2]] == ["zero", "mine"]
    assert {each["source"] for each in trials} == {f"s3://models/good{PIN}"}
    assert {each["data_digest"] for each in trials} == {"sha256:data"}
    # The same packaged recipe sections as `submit` sends.
    assert trials[0]["target_data"] == sent(kfp, "finetune")[0]["target_data"]
    # Three pods each: the run's driver, the step's driver, the step.
    assert sent_tasks(kfp, "trial") == ["trial"]
    (final,) = sent(kfp, "finetune")
    assert [each["name"] for each in final["strategies"]] == found["best"]
    assert final["source_candidates"] == [f"s3://models/good{PIN}"]
    losses = {each["name"]: each["loss"] for each in found["trials"]}
    assert losses[found["best"][0]] == min(losses.values()) < losses["mine"]
    assert found["run"]["run_id"] == kfp.runs[-1]["run_id"]


def test_the_record_is_that_of_a_search_on_one_machine(kfp, pods, searched):
    assert searched("--trials", "3", "--no-run").code == 0

    (parent,) = recorded("search")
    trials = recorded("trial")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["search/trials"] == len(trials) == 3
    assert parent.data.tags["mlflow.note.content"].startswith("3 trials, which are below this run; the search ended as")
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["headstart.trial.state"] == "complete"
        assert {"headstart.strategy", "headstart.source_model"} <= run.data.tags.keys()
        assert {"val/log_loss", "val/best_accuracy", "val/best_accuracy_low"} <= run.data.metrics.keys()
        assert run.info.run_name == run.data.params["name"] == run.data.tags["headstart.strategy"]
    assert sent(kfp, "finetune") == []


def test_after_an_interruption_the_same_command_goes_on_with_the_runs_at_work(kfp, pods, searched, clock):
    def interrupt() -> None:
        if len(pods.tried) >= 5:
            clock.during = lambda: None
            raise KeyboardInterrupt

    clock.during = interrupt
    stopped = searched("--trials", "8", "--at-once", "3", "--no-run")
    assert stopped.code == 130
    assert "The trials at work go on, and the same command goes on with them" in stopped.err
    begun = len(sent(kfp, "trial"))
    assert any(not kfp.workflows[each["run_id"]].is_final for each in kfp.runs)

    answer = searched("--trials", "8", "--at-once", "3", "--no-run", "--json")
    assert answer.code == 0, answer.err
    assert len(sent(kfp, "trial")) == len(json.loads(answer.out)["trials"]) == 8 > begun
    assert len(sent(kfp, "survey")) == 1
    strategies = [json.dumps(each["strategy"], sort_keys=True) for each in sent(kfp, "trial")]
    assert len(set(strategies)) == 8
    assert len(recorded("search")) == 1
    assert {run.info.status for run in recorded("search") + recorded("trial")} == {"FINISHED"}


def test_a_run_that_was_started_although_no_answer_came_is_not_started_again(kfp, pods, searched, monkeypatch):
    create, lost = kfp.run_service_create_run, []

    def without_answer(body: dict[str, Any]) -> dict[str, Any]:
        made = create(body)
        if "trial" in made["display_name"] and not lost:
            lost.append(made["run_id"])
            raise Refused(504, "upstream request timeout")
        return made

    monkeypatch.setattr(kfp, "run_service_create_run", without_answer)
    answer = searched("--trials", "4", "--no-run")

    assert answer.code == 0, answer.err
    assert len(lost) == 1
    assert len(sent(kfp, "trial")) == 4


def test_a_failed_trial_is_told_with_its_reason_and_the_search_goes_on(kfp, pods, searched):
    pods.fails = {2: "mine: the loss became nan in epoch 1; lower learning_rate."}
    answer = searched("--trials", "5", "--no-run", "--json")

    assert answer.code == 0, answer.err
    states = {each["name"]: (each["state"], each["reason"]) for each in json.loads(answer.out)["trials"]}
    assert states["mine"] == ("failed", pods.fails[2])
    assert sum(state == "complete" for state, _ in states.values()) == 4
    (failed,) = (run for run in recorded("trial") if run.data.tags.get("headstart.trial.state") == "failed")
    assert (failed.info.status, failed.data.tags["mlflow.note.content"]) == ("FAILED", pods.fails[2])


def test_a_trial_whose_pod_wrote_nothing_fails_as_the_cluster_says(kfp, pods, searched):
    def kill(number: int, given: dict[str, Any], run_id: str) -> None:
        if number == 2:
            kfp.workflows[run_id].fails = "trial"
            kfp.workflows[run_id].end = None
            pods._seen.add((run_id, "ended"))

    pods.at_work = kill
    answer = searched("--trials", "3", "--no-run", "--json")

    assert answer.code == 0, answer.err
    (failed,) = (each for each in json.loads(answer.out)["trials"] if each["state"] == "failed")
    assert failed["reason"].startswith("its run digits-search-")
    assert failed["reason"].endswith("failed: Error (exit code 1)")
    (run,) = (run for run in recorded("trial") if run.data.tags.get("headstart.trial.state") == "failed")
    assert run.info.run_name == failed["name"]


def test_a_run_that_is_behind_the_others_is_terminated_but_never_one_of_the_recipes_own(kfp, pods, searched, clock):
    behind: list[Workflow] = []

    def report(number: int, given: dict[str, Any], run_id: str) -> None:
        parent = search_named(connect(), "digits", given["search"])
        strategy = given["strategy"]
        run = new_trial(parent, strategy["name"], "good", strategy, {"headstart.trial.run": run_id})
        run.log_metrics({QUARTER_LOSS: 9.0 if number in (2, 8) else 0.1}, step=1)
        if number in (2, 8):
            # It goes on for a while.
            kfp.workflows[run_id].held = {"trial": ""}
            behind.append(kfp.workflows[run_id])

    def let_go() -> None:
        if behind and len(clock.slept) % 5 == 0:
            behind[0].held = {}

    pods.at_work, clock.during = report, let_go
    answer = searched("--trials", "8", "--at-once", "1", "--no-run", "--json")

    assert answer.code == 0, answer.err
    *others, last = json.loads(answer.out)["trials"]
    assert {each["state"] for each in others} == {"complete"}
    assert others[1]["name"] == "mine"
    assert last["state"] == "pruned"
    assert "above the median of others after 1 quarters" in last["reason"]
    (ended,) = kfp.called("run_service_terminate_run")
    assert kfp.workflows[ended.parameters["run_id"]] is behind[1]
    (pruned,) = (run for run in recorded("trial") if run.data.tags["headstart.trial.state"] == "pruned")
    assert (pruned.info.run_name, pruned.info.status) == (last["name"], "FINISHED")


def test_when_the_minutes_are_over_what_is_at_work_is_ended_and_more_minutes_go_on_with_it(
    kfp, pods, searched, clock, monkeypatch
):
    since = clock.now()
    monkeypatch.setattr(search_clock.time, "monotonic", lambda: (clock.now() - since).total_seconds())
    first = searched("--minutes", "1.15", "--at-once", "2", "--no-run", "--json")

    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert found["reason"] == "the 1.15 minutes were over"
    ended = [each.parameters["run_id"] for each in kfp.called("run_service_terminate_run")]
    assert len(ended) == 2
    cut_short = [dict(kfp.workflows[run_id].parameters)["strategy"] for run_id in ended]
    assert not any(each["name"] in [s["name"] for s in cut_short] for each in found["trials"])
    assert {run.info.status for run in recorded("trial")} <= {"FINISHED", "KILLED"}

    further = searched("--trials", str(len(found["trials"]) + 2), "--no-run")
    assert further.code == 0, further.err
    # Drawn settings are the same; the name of what was drawn follows its number.
    again = [each["strategy"] for each in sent(kfp, "trial")[-2:]]
    without = [{key: value for key, value in each.items() if key != "name"} for each in (*cut_short, *again)]
    assert without[:2] == without[2:]


def test_a_source_that_the_recipe_pretrains_is_made_by_a_run_of_its_own_once(kfp, pods, searched):
    def pretrain(workflow: Workflow) -> None:
        if workflow.spec["pipelineInfo"]["name"] == "pretrain" and workflow.is_final and not done:
            done.append(workflow)
            run_id = next(key for key, each in kfp.workflows.items() if each is workflow)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KFP_RUN_ID", run_id)
                with runs.step_run("digits", "register", role="source") as run:
                    run.set_tags({"headstart.registered": "models:/digits-source/1"})
        pods.look(workflow)

    done: list[Workflow] = []
    kfp.looked = pretrain
    source = {"data": {"uri": "s3://data/mnist"}, "candidates": [f"s3://models/good{PIN}"]}
    for _ in range(2):
        answer = searched("--trials", "2", "--no-run", recipe={"source": source})
        assert answer.code == 0, answer.err

    assert [each["source_data"]["uri"] for each in sent(kfp, "pretrain")] == ["s3://data/mnist"]
    (survey,) = sent(kfp, "survey")
    assert survey["source_candidates"] == [f"s3://models/good{PIN}", "models:/digits-source/1"]


def test_a_server_that_does_not_answer_for_a_while_is_asked_again(kfp, pods, searched, clock):
    def fault() -> None:
        if len(pods.tried) >= 2 and not kfp.faults:
            kfp.faults.append(Fault("run_service_get_run", 503, times=3))

    clock.during = fault
    answer = searched("--trials", "3", "--no-run")

    assert answer.code == 0, answer.err
    assert kfp.faults[0].times == 0
    assert len(sent(kfp, "trial")) == 3


@pytest.mark.parametrize(
    ("options", "sections", "said"),
    [
        ((), {"target": {"data": {"uri": "photos"}}}, "'photos' is on this machine, where no pod sees it"),
        ((), {"target": None, "source": {"data": {"uri": "s3://data/mnist"}}}, "has no target"),
        (("--at-once", "0"), {}, "0 is not a whole number above 0"),
    ],
)
def test_what_a_cluster_cannot_search_is_refused_before_anything_is_started(
    kfp, pods, searched, options, sections, said
):
    answer = searched(*options, recipe=sections)

    assert answer.code == 2
    assert said in answer.err
    assert kfp.runs == []


def test_without_the_record_that_pods_write_to_nothing_is_started(kfp, pods, searched, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    answer = searched("--trials", "2")

    assert answer.code == 2
    assert "set MLFLOW_TRACKING_URI to the server that the cluster's steps write to" in answer.err
    assert kfp.runs == []


def test_a_cluster_that_refuses_a_run_is_one_sentence_and_the_search_waits(kfp, pods, searched):
    def refuse(number: int, given: dict[str, Any], run_id: str) -> None:
        kfp.faults.append(Fault("run_service_create_run", 403))

    pods.at_work = refuse
    answer = searched("--trials", "4", "--at-once", "1", "--no-run")
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1

    pods.at_work = lambda *_: None
    kfp.faults.clear()
    assert searched("--trials", "4", "--at-once", "1", "--no-run").code == 0
    assert len(sent(kfp, "trial")) == 4


def test_options_of_a_cluster_alone_are_refused_where_there_is_none(cli, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    answer = cli("search", path, "--at-once", "3")

    assert answer.code == 2
    assert "--at-once has a meaning on a cluster only" in answer.err


# What pods do


@pytest.mark.slow
def test_pods_survey_and_try_what_they_are_sent_and_the_record_has_what_a_search_reads(
    kfp, empty_database, source_path, images, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    database = tmp_path / "mlflow.db"
    shutil.copy(empty_database, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    client = connect()
    experiment = runs.experiment_named(client, "digits", artifact_location=(tmp_path / "kept").as_uri())
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
        "HEADSTART_STATE": str(tmp_path / "state"),
        "OMP_NUM_THREADS": "1",
    }

    def carried_out(name: str, run_id: str, given: dict[str, Any]) -> Pods:
        package = tmp_path / f"{name}.yaml"
        compile_pipeline(name, package, Placement(image=IMAGE, profile=load_profile(PROFILE)))
        found = Pods(package.read_text(), tmp_path / run_id, environment, run_id)
        assert found.run(given) == "SUCCEEDED", found.failed
        return found

    data = {"uri": str(images / "digits"), "size": 16, "labels_per_class": 8, "fingerprint": "stat:1"}
    sections = {"training": {"epochs": 1, "precision": "fp32"}, "target_data": data}
    shared = {"name": "digits", "modality": "image", "seed": 0, **sections}
    with search_run(client, experiment, "digits-search", None, key="digits-1") as parent:
        carried_out("survey", "survey-1", {**shared, "source_candidates": [str(source_path)]})
        survey = surveyed(runs.recorded_run(client, "digits", "survey-1"))
        (source,) = survey.sources
        assert (source.name, source.candidate.stages > 1) == (f"file://{source_path}", True)
        own = {"search": "digits-1", "source": source.reference, "data_digest": survey.data_digest}
        strategy = {"name": "linear_probe", "strategy": "linear_probe"}
        given = {**shared, **own, "strategy": strategy, "evaluation": {"seeds": 1}}
        tried = carried_out("trial", "trial-1", given)
        changed = Pods((tmp_path / "trial.yaml").read_text(), tmp_path / "trial-2", environment, "trial-2")
        assert changed.run({**given, "data_digest": "sha256:other"}) == "FAILED"
        assert "are no longer those that the search digits-1 began with" in changed.failed["trial"]

        records = trial_records(parent)
        found = read_trial(records["trial-1"], 0, Sent(source.name, strategy, "run"), "accuracy", tmp_path / "held")
        assert found.state == records["trial-1"].state == "complete"
        assert found.loss == pytest.approx(read_predictions(tmp_path / "held").losses.mean(), rel=1e-4)
        assert found.low <= found.value <= found.high
        (shown,) = tried.outputs["trial"].artifacts["metrics"]
        assert shown["metadata"]["val/log_loss"] == pytest.approx(found.loss)
        assert "no longer those" in records["trial-2"].reason
    assert tried.started == ["trial"]
