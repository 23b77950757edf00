"""A step is started in its pod, and again where its process alone was killed."""

import os
import signal
import subprocess
import sys

import pytest

from headstart_components.close_record.component import close_record

# Writes a line into `tries` at each try, and does what the test says at its first ones.
STEP = """
import os, signal, sys
from headstart_components.start import survive

survive()
with open("tries", "a") as file:
    file.write(f"{os.getpid()}\\n")
tried = len(open("tries").readlines())
print("try", tried, flush=True)
"""


def ran(place, *body, wait=True):
    """A process that is supervised, and does `body` in the step."""
    process = subprocess.Popen(
        [sys.executable, "-c", STEP + "\n".join(body)], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    if wait:
        process.out, process.err = process.communicate(timeout=60)
    return process


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSEGV])
def test_a_step_whose_process_is_killed_is_started_again_and_says_so(tmp_path, death):
    step = ran(tmp_path, f"tried < 2 and os.kill(os.getpid(), {death:d})", "print('done')")

    assert (step.returncode, step.out.splitlines()) == (0, ["try 1", "try 2", "done"])
    assert f"The step's process was killed ({death.name}) and is started again" in step.err


def test_a_step_that_is_killed_each_time_fails_as_killed_after_a_few(tmp_path):
    step = ran(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")

    assert (step.returncode, step.out.splitlines()) == (137, ["try 1", "try 2", "try 3"])


@pytest.mark.parametrize(
    ("body", "status"), [("pass", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("os._exit(137)", 137)]
)
def test_a_step_that_ends_of_its_own_is_not_started_again(tmp_path, body, status):
    step = ran(tmp_path, body)

    assert (step.returncode, step.out) == (status, "try 1\n")


def test_a_step_that_is_told_to_end_does_so_once_and_first_writes_what_it_has(tmp_path):
    step = ran(
        tmp_path,
        "def ending(number, frame): print('checkpoint', flush=True); sys.exit(143)",
        "signal.signal(signal.SIGTERM, ending)",
        "print('ready', flush=True)",
        "signal.pause()",
        wait=False,
    )
    while step.stdout.readline() != "ready\n":
        pass
    os.kill(step.pid, signal.SIGTERM)

    assert (step.communicate(timeout=60)[0], step.returncode) == ("checkpoint\n", 143)


def test_a_step_that_is_killed_after_it_was_told_to_end_is_not_started_again(tmp_path):
    step = ran(
        tmp_path,
        "signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getpid(), signal.SIGKILL))",
        "print('ready', flush=True)",
        "signal.pause()",
        wait=False,
    )
    while step.stdout.readline() != "ready\n":
        pass
    os.kill(step.pid, signal.SIGTERM)

    assert (step.communicate(timeout=60)[0], step.returncode) == ("", 137)


def test_a_step_that_a_signal_ends_which_asks_for_it_is_not_started_again(tmp_path):
    step = ran(tmp_path, "os.kill(os.getpid(), signal.SIGTERM)")

    assert (step.returncode, step.out) == (143, "try 1\n")


@pytest.mark.parametrize(
    ("environment", "tries"),
    [({"KFP_RUN_ID": "run-a"}, 2), ({}, 1), ({"KFP_RUN_ID": "run-a", "HEADSTART_PARENT_RUN_ID": "of a local run"}, 1)],
    ids=["on a cluster", "on this machine", "by `headstart run` in a pod"],
)
def test_only_a_step_on_a_cluster_is_started_again_by_the_command_of_its_component(tmp_path, environment, tries):
    source = (
        "import os, signal\n"
        "def step():\n"
        "    with open('tries', 'a') as file: file.write('x')\n"
        "    if len(open('tries').read()) < 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    *command, _ = close_record.component_spec.implementation.container.command
    inputs = ["--executor_input", '{"outputs": {"outputFile": "outputs/all.json"}}', "--function_to_execute", "step"]
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"

    answer = subprocess.run(
        [*command, source, *inputs],
        cwd=tmp_path, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True,
    )  # fmt: skip

    assert len((tmp_path / "tries").read_text()) == tries
    # A shell that waits for the step says that it was killed; one that has become the step was killed itself.
    assert answer.returncode in ([0] if tries == 2 else [-signal.SIGKILL, 128 + signal.SIGKILL]), answer.stderr
