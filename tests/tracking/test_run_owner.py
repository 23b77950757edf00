"""Pipeline runs whose process was killed."""

import logging
import os
import subprocess

import pytest

from headstart.tracking import run_owner
from headstart.tracking.names import OWNER_MACHINE, OWNER_PROCESS
from headstart.tracking.run_owner import end_abandoned, owner_tags
from headstart.tracking.runs import child_run, experiment_named, new_parent

OURS = owner_tags()


@pytest.fixture
def begin(client, tmp_path):
    """Begins a pipeline run with one step whose owner has `tags`; gives a function that tells their states."""

    def begun(tags):
        experiment = experiment_named(client, "pets", artifact_location=(tmp_path / "artifacts").as_uri())
        parent = new_parent(client, experiment, name="pets-1", pipeline_run="pets-1", tags=tags)
        step = child_run(parent, "pretrain", {})
        return lambda: {client.get_run(run.id).info.status for run in (parent, step)}

    return begun


@pytest.fixture
def dead() -> str:
    """The number of a process that has ended."""
    with subprocess.Popen(["/bin/true"]) as process:
        return str(process.pid)


def test_the_run_of_a_killed_process_is_ended_as_killed_with_its_steps_and_that_is_said(begin, client, dead, caplog):
    states = begin({**OURS, OWNER_PROCESS: f"{dead} 1"})
    assert end_abandoned(client) == ["pets-1"]
    assert states() == {"KILLED"}
    assert "pets-1 was killed" in caplog.text
    assert end_abandoned(client) == []


def test_the_run_of_a_process_whose_number_another_process_has_now_is_ended(begin, client):
    number, _, started = OURS[OWNER_PROCESS].partition(" ")
    states = begin({**OURS, OWNER_PROCESS: f"{number} {int(started) - 1}"})
    end_abandoned(client)
    assert states() == {"KILLED"}


def test_the_run_of_a_process_that_waits_for_its_parent_to_notice_its_end_is_ended(begin, client):
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        tags = {**OURS, OWNER_PROCESS: run_owner._process(str(process.pid))}
        states = begin(tags)
        assert end_abandoned(client) == []
        process.kill()
        # Without reaping it.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert end_abandoned(client) == ["pets-1"]
    assert states() == {"KILLED"}


@pytest.mark.parametrize("tags", [
    OURS,
    {},
    {OWNER_MACHINE: OURS[OWNER_MACHINE]},
    {OWNER_MACHINE: OURS[OWNER_MACHINE], OWNER_PROCESS: "no number"},
])  # fmt: skip
def test_a_run_whose_owner_lives_or_is_unknown_goes_on(begin, client, tags):
    states = begin(tags)
    assert end_abandoned(client) == []
    assert states() == {"RUNNING"}


@pytest.mark.parametrize("part", range(3), ids=["host", "boot", "namespace"])
def test_a_run_of_another_host_or_boot_or_view_of_processes_goes_on(begin, client, dead, part):
    parts = OURS[OWNER_MACHINE].split(" ")
    parts[part] = "another"
    states = begin({OWNER_MACHINE: " ".join(parts), OWNER_PROCESS: f"{dead} 1"})
    assert end_abandoned(client) == []
    assert states() == {"RUNNING"}


def test_who_may_not_end_a_run_reads_the_record_all_the_same(begin, client, dead, monkeypatch, caplog):
    begin({**OURS, OWNER_PROCESS: f"{dead} 1"})
    with monkeypatch.context() as patch:
        patch.setattr(run_owner, "end_with_steps", refuse)
        with caplog.at_level(logging.WARNING):
            assert end_abandoned(client) == []
    assert "you may only read" in caplog.text


def refuse(*_: object) -> None:
    raise run_owner.HeadstartError("you may only read")
