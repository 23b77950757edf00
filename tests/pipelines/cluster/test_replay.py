"""What a person is told of runs that a real server was seen to have: each step's word, reason, attempts and log."""

import json
import re

import pytest

from headstart_pipelines.cluster.steps import steps_of
from headstart_pipelines.cluster.workflow import Workflow
from tests.pipelines.cluster.conftest import PROFILE
from tests.pipelines.cluster.kfp_server import Fault, recordings
from tests.pipelines.cluster.kfp_server.workflows import Workflow as Simulated

BEFORE_FINETUNING = [
    "prepare source",
    "pretrain",
    "register source",
    "prepare target",
    "select source",
    "fit baselines",
]
FOUR = [*BEFORE_FINETUNING, "finetune zero", "finetune partial", "finetune full", "finetune full-l2sp", "evaluate",
        "register target"]  # fmt: skip
TWO = [*BEFORE_FINETUNING, "finetune partial", "finetune full", "evaluate", "register target"]
ONE = [*BEFORE_FINETUNING, "finetune zero", "evaluate", "register target"]
FLAT = ["prep", "prep-2", "tune a", "tune b", "tune c", "judge", "close"]

DONE = ["done"]
# The run's word, and each step's.
TOLD = {
    "deadline-passed": ("failed", ONE, ["failed"] + ["omitted"] * 8),
    "evaluate-raised": ("failed", TWO, ["reused"] * 2 + DONE + ["reused"] * 5 + ["failed", "omitted"]),
    "flat-exit-task-failed": ("failed", FLAT, DONE * 5 + ["failed", "done"]),
    "flat-exit-task-failed-stock": ("failed", FLAT, DONE * 5 + ["failed", "done"]),
    "flat-exit-task-strategy-failed-stock": ("failed", FLAT, DONE * 3 + ["failed", "done", "omitted", "done"]),
    "flat-exit-task-succeeded": ("succeeded", FLAT, DONE * 7),
    "flat-exit-task-terminated": ("terminated", FLAT, DONE * 5 + ["terminated", "done"]),
    "flat-exit-task-terminated-stock": ("terminated", FLAT, DONE * 5 + ["terminated"] * 2),
    "gated": ("running", ONE, ["done", "queued"] + ["waiting"] * 7),
    "image-missing": ("running", ONE, ["no image"] + ["waiting"] * 8),
    "out-of-memory": ("failed", ONE, ["failed"] + ["omitted"] * 8),
    "plain-names-succeeded": ("succeeded", FOUR, DONE * 12),
    "pod-deleted-plain-names-not-retried": ("failed", FLAT, DONE * 5 + ["failed", "done"]),
    "pod-deleted-retried": ("running", ONE, ["done", "running"] + ["waiting"] * 7),
    "retry-limit-0-always": ("failed", FLAT, DONE * 5 + ["failed", "done"]),
    "reused": ("running", TWO, ["reused"] * 2 + DONE + ["reused"] * 5 + ["done", "running"]),
    "scheduled-workflow-gone": ("lost", TWO, ["done", "lost"] + ["not run"] * 8),
    "secret-missing": ("running", ONE, ["no secret"] + ["waiting"] * 8),
    "step-killed": ("failed", ONE, ["done", "failed"] + ["omitted"] * 7),
    "terminated": ("terminated", ONE, ["done", "terminated"] + ["omitted"] * 7),
    "transfer-compressed-running": ("running", FOUR, DONE * 7 + ["running"] * 3 + ["waiting"] * 2),
    "transfer-compressed-succeeded": ("succeeded", FOUR, DONE * 12),
    "transfer-driver-failed": ("failed", FOUR, DONE * 6 + ["failed"] * 4 + ["omitted"] * 2),
    "two-strategies-succeeded": ("succeeded", TWO, DONE * 10),
}


@pytest.fixture
def told(kfp, cli):
    """What `headstart runs RUN --json` tells of a recorded run."""

    def call(case):
        answer = cli("runs", kfp.replay(case)["run_id"], "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    return call


def of(run, label):
    """A step of a run."""
    return next(step for step in run["steps"] if step["step"] == label)


def test_every_recorded_run_is_replayed():
    assert recordings.cases() == sorted(TOLD)


@pytest.mark.parametrize("case", TOLD)
def test_each_step_of_a_real_run_has_the_right_word(told, case):
    word, labels, words = TOLD[case]

    run = told(case)

    assert [(step["step"], step["state"]) for step in run["steps"]] == list(zip(labels, words, strict=True))
    assert run["state"] == word


@pytest.mark.parametrize(
    ("case", "step", "reason"),
    [
        ("image-missing", "prepare source", 'ErrImagePull: failed to pull and unpack image "registry.example/'),
        ("secret-missing", "prepare source", 'CreateContainerConfigError: secret "headstart-absent" not found'),
        ("gated", "pretrain", "it waits for Kueue's queue headstart or for a node"),
        ("out-of-memory", "prepare source", "out of memory: OOMKilled (exit code 1)"),
        ("deadline-passed", "prepare source", "its deadline passed: Pod was active on the node longer than the"),
        ("step-killed", "pretrain", "Error (exit code 1)"),
        ("transfer-driver-failed", "finetune zero", "its driver: Error (exit code 1)"),
        ("pod-deleted-plain-names-not-retried", "judge", "pod deleted"),
        ("flat-exit-task-terminated-stock", "close", "its driver: Step exceeded its deadline"),
        ("scheduled-workflow-gone", "pretrain", "its workflow was deleted"),
        ("evaluate-raised", "register target", "a step that it needs did not succeed"),
    ],
)  # fmt: skip
def test_a_step_that_is_held_up_or_failed_says_why(told, kfp, cli, case, step, reason):
    run = told(case)

    assert of(run, step)["reason"].startswith(reason)
    shown = " ".join(cli("runs", run["run_id"]).out.split())
    assert reason in shown


@pytest.mark.parametrize(
    ("case", "step", "attempts"),
    [
        ("plain-names-succeeded", "finetune partial", [("failed", "Error (exit code 1)"), ("done", None)]),
        ("pod-deleted-retried", "pretrain", [("failed", "pod deleted"), ("running", None)]),
        (
            "terminated", "pretrain",
            [("failed", "pod deleted"), ("terminated", "Error (exit code 143)")],
        ),
        (
            "retry-limit-0-always", "judge",
            [("failed", "Error (exit code 143)"), ("failed", "Error (exit code 1)"), ("failed", "Error (exit code 1)")],
        ),
    ],
)  # fmt: skip
def test_every_attempt_of_a_step_is_told_with_its_reason(told, cli, case, step, attempts):
    run = told(case)

    assert [(each["state"], each["reason"]) for each in of(run, step)["attempts"]] == attempts
    shown = cli("runs", run["run_id"]).out
    for number, (word, reason) in enumerate(attempts, start=1):
        assert re.search(rf"attempt {number}: {word}\b.*{re.escape(reason or '')}", shown)


def test_the_steps_are_the_workflows_own_where_their_package_is_gone(kfp, told):
    """None of the recorded pipelines is on the stand-in."""
    assert [step["step"] for step in told("transfer-compressed-succeeded")["steps"]] == FOUR
    assert kfp.called("pipeline_service_get_pipeline_version") == []


def test_the_workflow_and_the_package_tell_the_same_steps():
    run = recordings.run("flat-exit-task-succeeded")
    workflow = Workflow(recordings.workflow("flat-exit-task-succeeded"))
    parameters = run["runtime_config"]["parameters"]

    assert steps_of(workflow.package, parameters) == steps_of(run["pipeline_spec"], parameters)


def test_a_loop_over_what_a_step_put_out_has_the_rounds_that_the_workflow_has():
    workflow = Workflow(recordings.workflow("flat-exit-task-succeeded"))

    labels = [step.label for step in steps_of(workflow.package, {}, workflow.paths)]

    assert labels == ["prep", "prep-2", "tune 0", "tune 1", "tune 2", "judge", "close"]


@pytest.fixture
def told_by_tasks(kfp, cli):
    """What is told of a recorded run by a server whose API of release 1 is gone."""

    def call(case, **changed):
        run = kfp.replay(case) | changed
        kfp.runs[-1] = run
        kfp.faults.append(Fault("workflow", 404, times=1000))
        package = Workflow(recordings.workflow(case)).package
        kfp.versions.append({"pipeline_version_id": "1", "pipeline_id": "1", "pipeline_spec": package})
        run["pipeline_version_reference"] = {"pipeline_id": "1", "pipeline_version_id": "1"}
        run.pop("pipeline_spec", None)
        return json.loads(cli("runs", run["run_id"], "--json").out)

    return call


@pytest.mark.parametrize(
    "case",
    [
        "two-strategies-succeeded",
        "transfer-compressed-succeeded",
        "flat-exit-task-failed-stock",
        "plain-names-succeeded",
    ],
)
def test_without_the_workflow_the_task_details_are_read(told_by_tasks, case):
    word, labels, words = TOLD[case]

    told = told_by_tasks(case)

    assert [(step["step"], step["state"]) for step in told["steps"]] == list(zip(labels, words, strict=True))
    assert told["state"] == word


def test_what_nobody_tells_of_a_run_that_failed_is_unknown(told_by_tasks):
    """Its task details froze while the strategies ran."""
    told = told_by_tasks("transfer-compressed-running", state="FAILED")

    assert [step["state"] for step in told["steps"]] == ["done"] * 5 + ["unknown"] * 7
    assert of(told, "evaluate")["reason"] == "the server does not tell how it ended"


# What the commands say at the end


def test_a_terminated_run_is_no_failed_one(kfp, cli):
    run = kfp.replay("terminated")

    answer = cli("runs", run["run_id"], "--wait")

    assert answer.code == 1
    assert "was terminated; `headstart retry 605629a0-2c81-466b-a59b-08131e475884` goes on with it." in answer.err
    (row,) = json.loads(cli("runs", "--json").out)
    assert row["state"] == "terminated"
    assert "has ended already (terminated)" in cli("terminate", run["run_id"]).err


def test_a_run_that_goes_on_after_it_was_terminated_is_running_again(kfp, cli):
    run = kfp.replay("terminated")
    run["state"] = "RUNNING"
    run["state_history"].append({"update_time": "2026-11-28T03:40:00Z", "state": "RUNNING"})

    assert json.loads(cli("runs", run["run_id"], "--json").out)["state"] == "running"


def test_a_run_whose_schedule_took_its_workflow_along_is_told_as_lost(kfp, cli):
    run = kfp.replay("scheduled-workflow-gone")

    answer = cli("runs", run["run_id"], "--wait")

    assert answer.code == 1
    assert "is lost: its schedule was deleted while it ran, and its workflow with it" in answer.err
    (row,) = json.loads(cli("runs", "--json").out)
    assert row["state"] == "lost"


def test_of_the_runs_of_a_schedule_that_was_deleted_those_that_had_ended_are_not_lost(kfp, cli):
    kfp.replay("scheduled-workflow-gone")
    kfp.replay("scheduled-workflow-gone")["state"] = "SUCCEEDED"

    assert [row["state"] for row in json.loads(cli("runs", "--json").out)] == ["succeeded", "lost"]
    assert len(kfp.called("recurring_run_service_get_recurring_run")) == 1


def test_a_scheduled_run_whose_schedule_is_there_is_running(kfp, cli):
    run = kfp.replay("scheduled-workflow-gone")
    kfp.recurring.append({"recurring_run_id": run["recurring_run_id"], "display_name": "five"})

    told = json.loads(cli("runs", run["run_id"], "--json").out)

    assert told["state"] == "running"
    assert of(told, "pretrain")["state"] == "starting"


def test_a_run_that_failed_for_memory_ends_with_that(kfp, cli):
    run = kfp.replay("out-of-memory")

    answer = cli("runs", run["run_id"], "--wait")

    assert answer.code == 1
    assert "failed in 'prepare source': out of memory: OOMKilled (exit code 1)" in answer.err


@pytest.mark.parametrize("case", TOLD)
def test_what_is_shown_of_a_real_run_fits_into_a_terminal(kfp, cli, monkeypatch, case):
    monkeypatch.setenv("COLUMNS", "80")
    kfp.replay(case)

    lines = cli("runs", kfp.runs[-1]["run_id"]).out.splitlines()

    assert max(len(line) for line in lines if not line.startswith("KFP page")) <= 80


# Logs


@pytest.mark.parametrize(
    ("case", "step", "said"),
    [
        ("image-missing", "prepare source", "has not started: no image, ErrImagePull: failed to pull and unpack image"),
        ("secret-missing", "prepare source", "has not started: no secret, CreateContainerConfigError: secret"),
        ("gated", "pretrain", "has not started: queued, it waits for Kueue's queue headstart or for a node."),
        ("gated", "evaluate", "has not started: it waits for the steps before it."),
        ("reused", "pretrain", "was reused: an earlier run did its work, and has its log."),
        ("step-killed", "evaluate", "was never started: it is omitted, a step that it needs did not succeed."),
    ],
)
def test_a_step_without_a_log_says_what_is_true_of_it(kfp, cli, case, step, said):
    answer = cli("logs", kfp.replay(case)["run_id"], step)

    assert answer.code == 1
    assert said in answer.err
    assert "any more" not in answer.err


def test_a_log_that_the_server_cannot_find_in_the_archive_is_said_to_be_kept_there(kfp, cli):
    answer = cli("logs", kfp.replay("transfer-compressed-succeeded")["run_id"], "evaluate")

    assert answer.code == 1
    assert "of a workflow as large as this one, the server does not know where its logs are kept" in answer.err
    assert "as mlpipeline/private-artifacts/kubeflow/transfer-f8q4z/2026/11/28/transfer-f8q4z-" in answer.err


def test_behind_the_pages_address_an_archived_log_is_read_from_the_store(kfp, cli):
    kfp.is_page = True
    run = kfp.replay("transfer-compressed-succeeded")
    nodes = Workflow(kfp.recorded[run["run_id"]]).nodes.values()
    key = next(node.log_key for node in nodes if node.kind == "Pod" and node.path == "root.pretrain.pretrain.executor")
    kfp.store[f"mlpipeline/{key}"] = recordings.log("pretrain")

    assert cli("logs", run["run_id"], "pretrain").out.splitlines()[-1] == "03:20:16 pretraining 6/6 done before"


@pytest.mark.parametrize(
    ("step", "own"),
    [
        (
            "pretrain",
            [
                "03:20:16 pretraining goes on from its checkpoint: epoch 7, step 0",
                "03:20:16 pretraining 6/6 done before",
            ],
        ),
        ("prepare source", []),
    ],
)
def test_of_a_real_log_the_steps_own_lines_are_shown_and_all_with_all(kfp, cli, run_id, step, own):
    kfp.is_raw, kfp.log = True, recordings.log(step)
    assert cli("runs", run_id, "--wait").code == 0

    assert cli("logs", run_id, step).out.splitlines() == own
    assert cli("logs", run_id, step, "--all").out.splitlines() == recordings.log(step).splitlines()


# The stand-in is the real thing


@pytest.mark.parametrize(
    ("case", "is_wrapped"),
    [
        ("transfer-compressed-succeeded", True),
        ("flat-exit-task-succeeded", False),
        ("flat-exit-task-failed-stock", True),
        ("flat-exit-task-failed", False),
        ("flat-exit-task-strategy-failed-stock", True),
        ("transfer-driver-failed", True),
        ("step-killed", True),
        ("reused", True),
    ],
)
def test_the_stand_ins_workflow_has_the_nodes_of_the_real_one(case, is_wrapped):
    """By name, type and phase."""
    _, labels, words = TOLD[case]
    real, run = Workflow(recordings.workflow(case)), recordings.run(case)
    known = real.package
    flow = Simulated(
        real.name, _with_leaves(known), run["runtime_config"]["parameters"], is_wrapped=is_wrapped,
        fails=next((label for label, each in zip(labels, words, strict=True) if each == "failed"), None),
        reused=frozenset(label for label, each in zip(labels, words, strict=True) if each == "reused"),
    )  # fmt: skip
    if case == "transfer-driver-failed":
        flow.fails, flow.stuck = None, frozenset(label for label in labels if label.startswith("finetune"))
    while not flow.is_final and flow.at < (words.index("running") if "running" in words else len(words)):
        flow.advance()

    made = {node["name"]: (node["type"], node["phase"]) for node in flow.nodes().values()}
    assert made == {node.name: (node.kind, node.phase) for node in real.nodes.values()}


def _with_leaves(package):
    """The package with empty specs for the components that a workflow keeps under their digests."""
    names = {
        task["componentRef"]["name"]
        for each in [package["root"], *package["components"].values()]
        for task in each["dag"]["tasks"].values()
    }
    return {"root": package["root"], "components": {name: package["components"].get(name, {}) for name in names}}


def test_a_run_with_a_parameter_that_its_pipeline_does_not_know_is_refused(kfp, run_id):
    from tests.pipelines.cluster.kfp_server.store import Refused

    body = kfp.called("run_service_create_run")[0].body
    parameters = body["runtime_config"]["parameters"]

    for changed, said in [
        ({**parameters, "surprise": 1}, "parameter surprise is no input"),
        ({**parameters, "seed": "zero"}, "seed requires type NUMBER_INTEGER"),
        ({key: value for key, value in parameters.items() if key != "seed"}, "parameter seed is not optional"),
        (None, "pipeline requiring input has no parameter"),
    ]:
        with pytest.raises(Refused, match=said):
            kfp.run_service_create_run({**body, "runtime_config": {"parameters": changed}})


@pytest.mark.parametrize(
    ("known", "unknown"), [("deploymentSpec:", "deploymentSpecs:"), ("podMetadata:", "podMetadatas:")]
)
def test_a_package_with_a_field_that_kubeflow_does_not_know_is_refused(kfp, run_id, known, unknown):
    from tests.pipelines.cluster.kfp_server.store import Refused

    package = kfp.called("upload_pipeline_version")[0].body
    pipeline = kfp.pipelines[0]["pipeline_id"]

    assert known in package
    with pytest.raises(Refused, match="Failed to parse the pipeline spec"):
        kfp.upload_pipeline_version(package.replace(known, unknown, 1), name="other", pipelineid=pipeline)


def test_strategies_that_a_loop_hands_on_with_another_type_fail_as_on_a_real_server(kfp, submit, cli, monkeypatch):
    from headstart_pipelines.cluster import submission

    # A loop over a list without a type of its items gives each to its steps as a string.
    compiled = submission.compile_pipeline

    def untyped(name, output, placement, *, allow_tag=False):
        compiled(name, output, placement, allow_tag=allow_tag)
        text, count = re.subn(r"(strategies-loop-item: *\{?\s*parameterType: )STRUCT", r"\1STRING", output.read_text())
        assert count == 1
        output.write_text(text)

    monkeypatch.setattr("headstart_pipelines.cluster.submission.compile_pipeline", untyped)

    answer = submit("--wait")

    assert answer.code == 1
    assert "failed in 'finetune zero': its driver: Error (exit code 1)" in answer.err
    assert str(PROFILE) not in answer.err
