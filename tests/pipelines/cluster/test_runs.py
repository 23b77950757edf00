"""Runs on a server: listed, shown, read."""

import json
import re

import pytest

from tests.pipelines.cluster.kfp_server import Fault


def finish(kfp, cli):
    """Lets the latest run go to its end."""
    assert cli("runs", kfp.runs[-1]["run_id"], "--wait").code in (0, 1)


# Listing


def test_runs_are_listed_latest_first_over_all_pages(kfp, submit, cli):
    for _ in range(5):
        submit()
    finish(kfp, cli)

    rows = json.loads(cli("runs", "--json").out)

    assert [row["run_id"] for row in rows] == [run["run_id"] for run in reversed(kfp.runs)]
    assert list(rows[0]) == ["run", "state", "created", "finished", "seconds", "experiment", "run_id", "page"]
    took = 100 * len(kfp.workflows[rows[0]["run_id"]].labels)
    assert (rows[0]["state"], rows[0]["experiment"], rows[0]["seconds"]) == ("succeeded", "digits", took)
    assert (rows[1]["state"], rows[1]["seconds"]) == ("pending", None)


def test_the_list_fits_into_a_terminal_and_names_each_run(kfp, submit, cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    submit()
    finish(kfp, cli)

    out = cli("runs").out

    assert re.search(rf"{kfp.runs[0]['display_name']} +succeeded +2026-03-01 03:00 +1\d min \d0 s", out)
    assert max(map(len, out.splitlines())) <= 80


def test_runs_of_one_experiment_are_told_from_the_others(kfp, submit, cli):
    submit()
    submit(name="other")

    assert [row["experiment"] for row in json.loads(cli("runs", "--experiment", "other", "--json").out)] == ["other"]


def test_no_more_runs_are_asked_for_than_are_shown(kfp, submit, cli):
    for _ in range(5):
        submit()
    kfp.requests.clear()

    assert len(json.loads(cli("runs", "--limit", "2", "--json").out)) == 2
    assert len(kfp.called("run_service_list_runs")) <= 2


def test_an_experiment_that_is_not_there_is_named(kfp, cli):
    answer = cli("runs", "--experiment", "nothing")

    assert answer.code == 2
    assert "There is no experiment nothing on" in answer.err


def test_a_server_without_runs_says_how_to_start_one(kfp, cli):
    assert "`headstart submit RECIPE` starts one" in cli("runs").out


# One run


@pytest.mark.parametrize("by", ["run_id", "display_name"])
def test_a_run_is_shown_by_its_id_and_by_its_name(kfp, cli, run_id, by):
    for _ in range(3):
        shown = cli("runs", kfp.runs[0][by], "--json")

    run = json.loads(shown.out)
    assert (run["run_id"], run["state"]) == (run_id, "running")
    steps = {step["step"]: step for step in run["steps"]}
    first, second, third = (steps[label] for label in kfp.workflows[run_id].labels[:3])
    assert (first["state"], first["seconds"]) == ("done", 75)
    assert (second["state"], second["seconds"]) == ("running", 0)
    assert (third["state"], third["seconds"], third["attempts"]) == ("waiting", None, [])
    (attempt,) = first["attempts"]
    assert attempt == {
        "state": "done", "reason": None, "pod": attempt["pod"], "driver": False,
        "started": "2026-03-01T03:00:00+00:00", "finished": "2026-03-01T03:01:15+00:00",
    }  # fmt: skip
    assert attempt["pod"] in kfp.workflows[run_id].pods()


@pytest.mark.parametrize("command", ["runs", "logs", "retry", "terminate"])
@pytest.mark.parametrize("name", ["digits-1", "5e0a9b0e-0000-4000-8000-000000000000"])
def test_a_run_that_is_not_there_is_named(kfp, cli, command, name):
    answer = cli(command, name)

    assert answer.code == 2
    assert f"There is no run {name} on {kfp.host}; `headstart runs` lists" in answer.err


def test_what_a_failed_run_never_came_to_waits_no_longer(kfp, cli, run_id):
    kfp.workflows[run_id].fails = "pretrain"
    finish(kfp, cli)

    out = cli("runs", run_id).out

    assert re.search(r"✗ pretrain +failed", out)
    assert re.search(r"· register target +omitted", out)
    assert "waiting" not in out


def test_to_wait_needs_a_run(kfp, cli):
    answer = cli("runs", "--wait")

    assert answer.code == 2
    assert "headstart runs RUN --wait" in answer.err


# Logs


def test_the_log_of_a_step_is_printed_as_it_was_written(kfp, cli, run_id):
    finish(kfp, cli)

    answer = cli("logs", run_id, "select source")

    assert answer.code == 0
    assert answer.out.splitlines() == ["log of select source", *(f"line {number}" for number in range(1, 41))]


def test_without_a_step_the_failed_ones_log_is_meant(kfp, cli, run_id):
    kfp.workflows[run_id].fails = "finetune zero"
    finish(kfp, cli)

    assert cli("logs", run_id).out.startswith("log of finetune zero\n")


def test_without_a_failure_each_steps_log_has_a_heading(kfp, cli, run_id):
    finish(kfp, cli)

    headings = re.findall(r"^==> (.+), attempt 1: done <==$", cli("logs", run_id).out, re.MULTILINE)

    assert sorted(headings) == sorted(kfp.workflows[run_id].labels)


def test_each_attempt_of_a_step_that_was_retried_has_its_log(kfp, cli, run_id):
    kfp.workflows[run_id].retried = frozenset({"pretrain"})
    kfp.log = ""
    finish(kfp, cli)

    assert cli("logs", run_id, "pretrain").out.splitlines() == [
        "==> pretrain, attempt 1: failed: Error (exit code 1) <==",
        "log of pretrain(0)",
        "==> pretrain, attempt 2: done <==",
        "log of pretrain(1)",
    ]


def test_a_log_is_followed_until_its_step_ends(kfp, cli, run_id):
    count = [0]

    def write(workflow):
        count[0] += 1
        # Three looks a step; the last line is still being written.
        workflow.at -= 1 if count[0] % 3 and workflow.at > 0 else 0
        kfp.log = "".join(f"line {number}\n" for number in range(count[0])) + ("half a li" if count[0] % 3 else "")

    kfp.looked, kfp.is_raw = write, True

    answer = cli("logs", run_id, "pretrain", "--follow")

    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert lines
    # As soon as the step has ended.
    workflow = kfp.workflows[run_id]
    assert workflow.at == workflow.labels.index("pretrain") + 1


def test_without_a_step_the_logs_of_all_are_followed_to_the_end_of_the_run(kfp, cli, run_id):
    answer = cli("logs", run_id, "--follow")

    assert answer.code == 0, answer.err
    headings = re.findall(r"^==> (.+), attempt 1 <==$", answer.out, re.MULTILINE)
    assert headings == kfp.workflows[run_id].labels
    assert answer.out.count("line 40\n") == len(headings)


def test_of_a_step_that_failed_the_launchers_errors_are_shown(kfp, cli, run_id):
    kfp.workflows[run_id].fails = "pretrain"
    kfp.log = "Traceback of the step's own\nE0301 03:00:17.9 15 main.go:56] failed to upload artifacts: denied\n"
    finish(kfp, cli)

    assert cli("logs", run_id, "pretrain").out.splitlines() == ["log of pretrain", *kfp.log.splitlines()]


def test_a_log_that_breaks_off_is_shown_as_far_as_it_goes(kfp, cli, run_id):
    kfp.is_raw, kfp.log = True, 'line 1\n{"error_message":"stream closed","error_details":"stream closed"}'
    finish(kfp, cli)

    assert cli("logs", run_id, "pretrain").out.splitlines() == ["line 1"]


def test_what_is_there_of_several_logs_is_shown_beside_what_is_gone(kfp, cli, run_id):
    finish(kfp, cli)
    kfp.gone = {pod for pod, label in kfp.workflows[run_id].pods().items() if label in ("pretrain", "evaluate")}

    answer = cli("logs", run_id)

    assert answer.code == 1
    assert len(re.findall("^==> ", answer.out, re.MULTILINE)) == len(kfp.workflows[run_id].labels) - 2
    assert "is not there any more" in answer.err
    assert "So it is with 1 more." in answer.err


def test_a_run_that_has_started_nothing_says_what_it_waits_for(kfp, cli, run_id):
    kfp.workflows[run_id].held = {"prepare source": "ErrImagePull: not found"}
    cli("runs", run_id)

    answer = cli("logs", run_id)

    assert answer.code == 1
    assert "has started no step yet: prepare source is no image, ErrImagePull: not found." in answer.err


def test_where_the_page_passes_no_logs_on_the_pages_own_are_read(kfp, cli, run_id):
    kfp.is_page = True
    finish(kfp, cli)

    assert cli("logs", run_id, "evaluate").out.startswith("log of evaluate\n")


def test_a_log_writes_no_commands_to_the_terminal(kfp, cli, run_id):
    kfp.log = "\x1b]0;owned\x07 fine\n"
    finish(kfp, cli)

    assert "\x1b" not in cli("logs", run_id, "evaluate").out


def test_a_log_that_is_gone_is_a_sentence(kfp, cli, run_id):
    finish(kfp, cli)
    kfp.faults.append(Fault("log", 500))

    answer = cli("logs", run_id, "evaluate")

    assert answer.code == 1
    assert "is not there any more" in answer.err


def test_a_step_that_was_reused_has_no_log(kfp, cli, run_id):
    kfp.workflows[run_id].reused = frozenset({"pretrain"})
    finish(kfp, cli)

    answer = cli("logs", run_id, "pretrain")

    assert answer.code == 1
    assert "The step 'pretrain' was reused: an earlier run did its work, and has its log." in answer.err


def test_a_step_that_is_none_is_answered_with_those_that_are(kfp, cli, run_id):
    answer = cli("logs", run_id, "dance")

    assert answer.code == 2
    listed = re.search(r"has no step 'dance'; it has (.+)\.$", answer.err)[1].split(", ")
    assert sorted(listed) == sorted(kfp.workflows[run_id].labels)


def test_a_server_without_the_old_api_says_where_to_look(kfp, cli, run_id):
    kfp.faults.append(Fault("workflow", 404))

    answer = cli("logs", run_id)

    assert answer.code == 2
    assert f"does not say in which pods run {run_id} worked; see its page" in answer.err


@pytest.mark.parametrize("command", ["runs", "terminate", "retry", "logs"])
def test_a_name_that_somebody_gave_a_run_writes_no_commands_to_the_terminal(kfp, cli, run_id, command):
    kfp.runs[0]["display_name"] = "\x1b]0;owned\x07"

    answer = cli(command, run_id)

    assert "\x1b" not in answer.out + answer.err
