"""A run is followed: what is shown, how it ends, and that it goes on when nobody looks any more."""

import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import timedelta

import pytest
import yaml
from kfp import compiler, dsl
from rich.console import Console

from headstart_pipelines.catalog import compile_pipeline
from headstart_pipelines.cluster.logs import progress_of
from headstart_pipelines.cluster.states import Progress, node_id, states_of, states_of_tasks
from headstart_pipelines.cluster.steps import Step, steps_of
from headstart_pipelines.cluster.view import RunWatch
from headstart_pipelines.cluster.workflow import Workflow
from headstart_pipelines.placement import Placement
from tests.finalised import Finalised
from tests.pipelines.cluster.conftest import IMAGE, PROFILE
from tests.pipelines.cluster.kfp_server import START, Fault, recordings

PROGRESS = "".join(
    f"[KFP Executor 2026-03-01 03:00:{10 * done},000 INFO]: pretraining {done}/6 loss {note}\n"
    for done, note in enumerate(
        ["1.000, validation accuracy 0.700", "0.500, validation accuracy 0.850", "0.250, validation accuracy 0.925"], 1
    )
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The pipeline `transfer`, compiled."""
    file = tmp_path_factory.mktemp("package") / "transfer.yaml"
    compile_pipeline("transfer", file, Placement())
    return yaml.safe_load(file.read_text())


# Steps


def test_a_node_has_the_id_that_argo_gives_it():
    """From the status of a real workflow, in the mock data of KFP's own page."""
    workflow = "job-cloneofhelloworldls94q-1-3667110102"

    assert node_id(workflow, f"{workflow}.A") == f"{workflow}-3867833025"


def test_the_steps_of_a_package_are_the_pipelines_with_a_round_for_each_strategy(package):
    steps = steps_of(package, {"strategies": [{"name": "zero"}, {"name": "full"}]})

    labels = [step.label for step in steps]
    assert [label for label in labels if label.startswith("finetune")] == ["finetune zero", "finetune full"]
    assert {"prepare source", "pretrain", "prepare target", "select source", "evaluate", "register target"} < {*labels}
    assert len({step.path for step in steps}) == len(steps)


def test_steps_come_after_what_they_depend_on(package):
    labels = [step.label for step in steps_of(package, {"strategies": [{"name": "a"}]})]

    assert labels.index("select source") < labels.index("finetune a") < labels.index("evaluate")


def test_steps_are_found_however_they_are_nested(tmp_path):
    """The paths are those that KFP's compiler for Argo makes: hooks for exit tasks, rounds in rounds."""

    @dsl.component(base_image="python:3.11")
    def say(text: str) -> str:
        return text

    @dsl.pipeline(name="nested")
    def nested(words: list[dict], deep: bool = True):
        with dsl.ExitHandler(say(text="end").set_display_name("close")), dsl.ParallelFor(words) as word:
            with dsl.ParallelFor(["x", "y"]) as letter:
                say(text=letter).set_display_name("letter")
            with dsl.If(deep == True):  # noqa: E712
                say(text=word.text).set_display_name("deep")

    file = tmp_path / "nested.yaml"
    with warnings.catch_warnings():
        # kfp says of each display name that it means nothing here.
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(nested, str(file))
    steps = steps_of(yaml.safe_load(file.read_text()), {"words": [{"name": "a"}, {"text": "b"}]})

    paths = {step.label: step.path for step in steps}
    assert list(paths) == ["deep a", "letter a x", "letter a y", "deep 1", "letter 1 x", "letter 1 y", "close"]
    round_1 = "root.exit-handler-1.for-loop-2.iteration-iterations(1:1).iteration-item"
    assert paths["letter 1 y"] == f"{round_1}.for-loop-4.iteration-iterations(1:1).iteration-item.say-2"
    assert paths["deep 1"] == f"{round_1}.condition-5.say-3"
    assert paths["close"] == "root.exit-handler-1.onExit.say"


def test_a_run_that_tells_nothing_of_its_tasks_has_only_waiting_steps():
    (state,) = states_of_tasks([Step("evaluate", "root.evaluate")], [])

    assert state.word == "waiting"
    assert state.seconds(START) is None


def read(case, change):
    """The words of a recorded run's steps after its nodes, by their names, were changed."""
    manifest = json.loads(json.dumps(recordings.workflow(case)))
    prefix = manifest["metadata"]["name"]
    nodes = {each["name"].removeprefix(prefix): each for each in manifest["status"]["nodes"].values()}
    change(nodes)
    manifest["status"]["nodes"] = {
        str(number): {**each, "name": prefix + name} for number, (name, each) in enumerate(nodes.items())
    }
    workflow = Workflow(manifest)
    return states_of(steps_of(workflow.package, recordings.run(case)["runtime_config"]["parameters"]), workflow)


def test_a_step_whose_condition_does_not_hold_is_skipped():
    def skip(nodes):
        for name in [each for each in nodes if each.startswith(".root.exit-handler-1.judge.")]:
            del nodes[name]
        said = "when 'false != false' evaluated false"
        nodes[".root.exit-handler-1.judge"] |= {"type": "Skipped", "phase": "Skipped", "message": said}

    states = {state.step.label: state for state in read("flat-exit-task-succeeded", skip)}

    assert (states["judge"].word, states["judge"].reason) == ("skipped", "its condition did not hold")
    assert states["close"].word == "done"


def test_a_step_that_argo_will_try_again_is_retrying():
    lost = "(0).root(0).pretrain(0).pretrain(0).executor(1)"

    states = read("pod-deleted-retried", lambda nodes: nodes.pop(lost))

    assert (states[1].step.label, states[1].word, states[1].reason) == ("pretrain", "retrying", "pod deleted")
    assert states[1].ended is None


def test_steps_of_a_group_that_is_run_again_are_those_of_its_latest_attempt():
    def again(nodes):
        for name, node in list(nodes.items()):
            if name.startswith(("(0).root(0).exit-handler-1(0).prep-driver", "(0).root(0).exit-handler-1(0).prep(0)")):
                nodes[name.replace("exit-handler-1(0)", "exit-handler-1(1)")] = {**node, "phase": "Running"}
        nodes["(0).root(0).exit-handler-1(1)"] = {**nodes["(0).root(0).exit-handler-1(0)"], "phase": "Running"}

    states = read("flat-exit-task-failed-stock", again)

    assert [state.word for state in states[:3]] == ["running", "waiting", "waiting"]
    assert [attempt.word for attempt in states[0].attempts] == ["done", "running"]


@pytest.mark.parametrize(
    ("phase", "message", "word", "reason"),
    [
        ("Failed", "main: Error (exit code 1)", "failed", "the driver of exit-handler-1: Error (exit code 1)"),
        ("Pending", "ErrImagePull: not found", "waiting", "the driver of exit-handler-1: ErrImagePull: not found"),
    ],
)
def test_steps_of_a_group_whose_driver_does_not_do_its_work_say_so(phase, message, word, reason):
    def fail(nodes):
        for name in [each for each in nodes if each.startswith(".root.exit-handler-1")]:
            if name.endswith(".exit-handler-1-driver"):
                nodes[name] |= {"phase": phase, "message": message}
            elif name == ".root.exit-handler-1" and phase == "Failed":
                nodes[name] |= {"type": "Skipped", "phase": "Omitted"}
            else:
                del nodes[name]

    states = read("flat-exit-task-succeeded", fail)

    assert {(state.word, state.reason) for state in states} == {(word, reason)}
    assert all(attempt.is_driver for state in states for attempt in state.attempts)


def test_the_rounds_of_a_loop_whose_driver_fails_fail_with_it():
    def fail(nodes):
        loop = "(0).root(0).exit-handler-1(0).for-loop-2(0)"
        for name in [each for each in nodes if each.startswith(f"{loop}.iteration-iterations")]:
            del nodes[name]
        for name in (f"{loop}.iteration-driver", f"{loop}.iteration-driver(0)"):
            nodes[name] |= {"phase": "Failed", "message": "main: Error (exit code 1)"}
        nodes[f"{loop}.iteration-iterations"] = {**nodes[loop], "type": "Skipped", "phase": "Omitted"}

    states = read("flat-exit-task-strategy-failed-stock", fail)

    told = [(state.step.label, state.word, state.reason) for state in states[2:5]]
    assert told == [(f"tune {name}", "failed", "the driver of for-loop-2: Error (exit code 1)") for name in "abc"]
    assert [len(state.attempts) for state in states[2:5]] == [1, 1, 1]


# Following


def labels(kfp):
    """The steps of the latest run, in the order in which the stand-in runs them."""
    return kfp.workflows[kfp.runs[-1]["run_id"]].labels


def words(out):
    """The lines that say what a step does now, as (step, state)."""
    return re.findall(r"^  […✓↺✗■] (.+?)  +(starting|running|done|reused|failed|terminated)\b", out, re.MULTILINE)


@pytest.mark.parametrize("is_wrapped", [True, False], ids=["wrapped", "plain"])
def test_each_step_is_told_when_it_starts_and_when_it_ends(kfp, submit, clock, is_wrapped):
    kfp.is_wrapped = is_wrapped

    answer = submit("--wait")

    assert answer.code == 0, answer.err
    told = words(answer.out)
    steps = labels(kfp)
    for step in steps:
        assert [word for name, word in told if name == step] == ["running", "done"]
    assert [name for name, word in told if word == "done"] == steps
    assert re.search(r"^  ✓ pretrain +done +1 min 15 s$", answer.out, re.MULTILINE)
    assert answer.out.splitlines()[-2:] == [
        "  run succeeded", "`headstart compare digits` shows whether it helped."
    ]  # fmt: skip
    assert set(clock.slept) == {5.0}


def test_a_workflow_that_grows_too_large_for_its_server_is_told_to_its_end(kfp, submit):
    kfp.looked = lambda workflow: setattr(workflow, "is_packed", workflow.at >= 4)

    answer = submit("--wait")

    assert [name for name, word in words(answer.out) if word == "done"] == labels(kfp)


@pytest.mark.parametrize(
    ("message", "queue", "word", "reason"),
    [
        ("ErrImagePull: not found", None, "no image", "ErrImagePull: not found"),
        ("ImagePullBackOff: back-off", None, "no image", "ImagePullBackOff: back-off"),
        ('CreateContainerConfigError: secret "s" not found', None, "no secret", 'secret "s" not found'),
        ('CreateContainerConfigError: configmap "c" not found', None, "no config", 'configmap "c" not found'),
        ("Unschedulable: 0/1 nodes are available", None, "queued", "Unschedulable: 0/1 nodes are available"),
        ("", "training", "queued", "it waits for Kueue's queue training or for a node"),
        ("ContainerCreating", None, "starting", None),
        ("", None, "starting", None),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told_while_it_does(kfp, submit, message, queue, word, reason):
    kfp.held, kfp.queues = {"pretrain": message}, {"pretrain": queue} if queue else {}
    looks = iter(range(5))
    kfp.looked = lambda workflow: setattr(workflow, "held", {}) if next(looks, None) is None else None

    out = submit("--wait").out

    shown = re.search(rf"^  […!] pretrain +{word}\n(    .*\n)?", out, re.MULTILINE)
    assert shown
    assert (shown[1] or "").strip().endswith(reason or "")
    assert out.count(reason or shown[0]) == 1
    assert "✓ pretrain" in out


def test_a_step_says_how_far_it_is_and_how_long_it_will_take(kfp, submit):
    kfp.log = PROGRESS

    answer = submit("--wait")

    assert "  … pretrain                 running  3/6  loss 0.250, validation accuracy 0.925, 30 s left\n" in answer.out


def test_work_that_was_done_before_or_begins_anew_takes_no_time_from_what_was_before():
    lines = [*PROGRESS.splitlines(), *PROGRESS.replace("pretraining", "probing").splitlines()[:1]]

    assert progress_of(lines) == Progress("probing", 1, 6, "loss 1.000, validation accuracy 0.700", None)
    assert progress_of(["[KFP Executor 2026-03-01 03:00:00,000 INFO]: full 6/6 done before"]).seconds_left is None
    assert progress_of(["KFP Executor", "3/6", ""]) is None


def test_with_json_the_course_goes_elsewhere(kfp, submit):
    answer = submit("--wait", "--json")

    assert json.loads(answer.out)["run_id"] == kfp.runs[0]["run_id"]
    assert [name for name, word in words(answer.err) if word == "done"] == labels(kfp)


def test_a_step_that_was_found_in_the_cache_is_told_as_reused(kfp, submit):
    kfp.reused = frozenset({"prepare source", "finetune zero"})

    told = words(submit("--wait").out)

    assert [name for name, word in told if word == "reused"] == ["prepare source", "finetune zero"]
    assert "prepare source" not in [name for name, word in told if word == "done"]


def test_a_failed_run_ends_with_the_step_its_reason_and_the_end_of_its_log(kfp, submit):
    kfp.fails = "finetune full"

    answer = submit("--wait")

    assert answer.code == 1
    assert "The end of the log of finetune full:" in answer.err
    assert "  line 40\n" in answer.err
    assert "  line 20\n" not in answer.err
    run_id = kfp.runs[0]["run_id"]
    last = answer.err.splitlines()[-1]
    assert f"failed in 'finetune full': Error (exit code 1). `headstart logs {run_id} 'finetune full'`" in last
    assert f"When mended, `headstart retry {run_id}` goes on from there." in last
    assert ("finetune full", "failed") in words(answer.out)


def test_a_failed_run_whose_log_is_gone_still_says_which_step(kfp, submit):
    kfp.fails = "evaluate"
    kfp.faults.append(Fault("log", 500, times=1000))

    answer = submit("--wait")

    assert answer.code == 1
    assert "failed in 'evaluate': Error (exit code 1). The log of transfer-x7k2p-retry-system-" in answer.err
    assert "Traceback" not in answer.err


def test_a_run_that_failed_before_any_step_says_what_the_server_says(kfp, submit):
    def refuse(workflow):
        workflow.end = "FAILED"
        kfp.runs[0]["error"] = {"code": 3, "message": "quota exceeded"}

    kfp.looked = refuse

    answer = submit("--wait")

    assert answer.code == 1
    assert "failed: quota exceeded. Its page is" in answer.err


def test_a_run_that_argo_refused_says_what_argo_says(kfp, cli):
    run = kfp.replay("out-of-memory")
    kfp.recorded[run["run_id"]]["status"] = {"phase": "Error", "message": "invalid spec: templates.root is missing"}
    run["run_details"] = {}

    answer = cli("runs", run["run_id"], "--wait")

    assert answer.code == 1
    assert "failed: invalid spec: templates.root is missing. Its page is" in answer.err


def test_a_run_that_somebody_terminates_ends_as_terminated(kfp, submit):
    def terminate(workflow):
        if workflow.at == 3 and not workflow.end:
            kfp.run_service_terminate_run(kfp.runs[0]["run_id"])

    kfp.looked = terminate

    answer = submit("--wait")

    assert answer.code == 1
    assert "was terminated; `headstart retry" in answer.err
    assert re.findall(r"^  run (.+)$", answer.out, re.MULTILINE) == ["pending", "running", "terminating", "terminated"]
    ended = rf"^  ■ {labels(kfp)[3]} +terminated 1 min 15 s\n    Error \(exit code 143\)$"
    assert re.search(ended, answer.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("kind", "times"), [(503, 4), (429, 1), ("closed", 2), ("half", 1), ("truncated", 1), ("html", 1), ("slow", 1)]
)
def test_a_server_that_fails_for_a_while_is_asked_again(kfp, submit, clock, kind, times):
    fault = Fault("run_service_get_run", kind, times=0)
    kfp.faults.append(fault)
    kfp.looked = lambda workflow: setattr(fault, "times", times if workflow.at == 2 and len(clock.slept) < 4 else 0)

    answer = submit("--wait", *(["--timeout", "2"] if kind == "slow" else []))

    assert answer.code == 0, answer.err
    assert answer.out.count("Trying again in") == times
    assert [wait for wait in clock.slept if wait != 5.0] == [10.0, 20.0, 40.0][: times - 1]
    assert "\n  run succeeded\n" in answer.out


def test_a_server_that_stays_away_is_given_up_and_the_run_said_to_go_on(kfp, submit, clock):
    kfp.faults.append(Fault("run_service_get_run", 503, times=0))
    kfp.looked = lambda workflow: setattr(kfp.faults[0], "times", 10_000 if workflow.at == 2 else 0)

    answer = submit("--wait")

    assert answer.code == 1
    assert "is not ready (503" in answer.err
    assert f"goes on; `headstart runs {kfp.runs[0]['run_id']} --wait` follows it again." in answer.err
    assert 900 <= (clock.at - START).total_seconds() < 1100


def test_a_token_that_expires_meanwhile_is_a_sentence(kfp, submit):
    kfp.faults.append(Fault("run_service_get_run", 401, times=0))
    kfp.looked = lambda workflow: setattr(kfp.faults[0], "times", 1 if workflow.at == 2 else 0)

    answer = submit("--wait")

    assert answer.code == 1
    assert "does not know who asks (401" in answer.err
    assert "One that worked before may have expired. The run digits-" in answer.err


def test_whoever_interrupts_stops_following_and_not_the_run(kfp, submit, clock, cli):
    def interrupt():
        if len(clock.slept) == 3:
            raise KeyboardInterrupt

    clock.during = interrupt

    answer = submit("--wait")

    run_id = kfp.runs[0]["run_id"]
    assert answer.code == 130
    assert f"goes on. `headstart runs {run_id} --wait` follows it again, `headstart terminate {run_id}` stops it." in (
        answer.err
    )
    assert kfp.called("run_service_terminate_run") == []
    again = cli("runs", run_id, "--wait")
    assert again.code == 0
    assert again.out.splitlines()[-1] == "  run succeeded"


def test_an_interrupt_that_python_drops_is_none_that_got_lost(kfp, submit, clock):
    def interrupt():
        if len(clock.slept) == 3:
            Finalised(lambda: signal.raise_signal(signal.SIGINT))
            # Ended by the second one, which thus comes while this process holds no lock.
            threading.Event().wait(60)

    kfp.looked = lambda workflow: setattr(workflow, "at", min(workflow.at, 1))
    clock.during = interrupt
    before = sys.unraisablehook, signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = submit("--wait")
    finally:
        signal.signal(signal.SIGINT, before[1])

    assert answer.code == 130
    assert "no longer following; the run digits-" in answer.err
    assert len(clock.slept) == 3
    assert sys.unraisablehook is before[0]


def test_a_real_interrupt_ends_the_process_at_once_and_leaves_the_run(kfp, recipe, tmp_path):
    """In a process of its own, as a terminal sends it."""
    kfp.looked = lambda workflow: setattr(workflow, "at", min(workflow.at, 1))
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "headstart_pipelines.cli", "submit", recipe(target=None, source={"data": {"uri":
             "torchvision://MNIST"}}), "--profile", PROFILE, "--image", IMAGE, "--wait"],
            stdout=file, stderr=subprocess.STDOUT, text=True,
            # Whoever runs the tests in the background has them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    while not kfp.called("run_service_get_run"):
        assert process.poll() is None, out.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    assert "no longer following; the run digits-" in out.read_text()
    assert "Traceback" not in out.read_text()
    assert kfp.called("run_service_terminate_run") == []


def test_on_a_terminal_one_table_changes_in_place(kfp, run_id):
    from headstart_pipelines.cluster.connection import connect
    from headstart_pipelines.cluster.follow import follow

    screen = Console(file=io.StringIO(), force_terminal=True, width=80, height=30, color_system=None)
    server = connect(kfp.host)
    with RunWatch(screen) as watch:
        follow(server, run_id, "digits", watch)

    shown = screen.file.getvalue()
    assert "\x1b[1A" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown[shown.rindex("prepare source") - 6 :])
    steps = labels(kfp)
    assert sorted(line.split("  ")[1][2:] for line in last.splitlines()[: len(steps)]) == sorted(steps)
    assert f"run succeeded, {len(steps)} of {len(steps)} steps done" in last
    assert max(map(len, last.splitlines())) <= 80


def test_a_steps_time_runs_on_until_it_ends(kfp, cli, run_id, clock):
    cli("runs", run_id)
    clock.at = START + timedelta(minutes=3)

    assert re.search(r"… prepare source +running +3 min 00 s", cli("runs", run_id).out)
