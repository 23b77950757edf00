"""What is left of a command that was killed."""

import contextlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow import MlflowClient

from headstart_pipelines import watchdog

# Longer than it takes: on a busy machine too.
_SECONDS = 30.0

# A command with a child, a grandchild in a session of its own, and one that does not listen.
COMMAND = """
import os, subprocess, time
from headstart_pipelines.watchdog import watched
with watched() as mark:
    environment = {**os.environ, **mark}
    subprocess.Popen(["sh", "-c", "setsid sleep 600 & trap '' TERM; echo begun; while :; do sleep 1; done"],
                     env=environment, start_new_session=True)
    time.sleep(600)
"""


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that `process` began, and those that they began."""
    return psutil.Process(process.pid).children(recursive=True)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that nobody waits for stays in the list of processes when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def end(process: "subprocess.Popen[str]", number: int) -> list[psutil.Process]:
    """What is left a while after `process` was sent a signal; in the end nothing is."""
    left = descendants(process)
    process.send_signal(number)
    process.wait()
    deadline = time.monotonic() + _SECONDS
    while (alive := [each for each in left if lives(each)]) and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=0.1)
    for each in alive:
        each.kill()
    return alive


def test_a_killed_commands_processes_end_with_it_also_those_of_other_sessions_and_those_that_do_not_listen():
    with subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        assert len(descendants(process)) >= 3
        assert end(process, signal.SIGKILL) == []


def test_a_command_that_ends_leaves_no_watchdog_and_touches_nobody():
    with subprocess.Popen(["/bin/sleep", "600"]) as other:
        with watchdog.watched():
            (watching,) = [each for each in psutil.Process().children() if each.pid != other.pid]
        assert not watching.is_running()
        assert other.poll() is None
        other.kill()


def test_a_killed_runs_containers_are_removed(monkeypatch):
    docker = pytest.importorskip("docker")
    removed = []
    containers = [SimpleNamespace(labels={"headstart.watched": mark}, name=mark) for mark in ("ours", "others")]

    def listed(*, all: bool, filters: dict[str, str]) -> list[SimpleNamespace]:
        name, _, value = filters["label"].partition("=")
        found = [each for each in containers if each.labels.get(name) == value]
        return [SimpleNamespace(remove=lambda force, name=each.name: removed.append((name, force))) for each in found]

    client = SimpleNamespace(containers=SimpleNamespace(list=listed), close=lambda: None)
    monkeypatch.setattr(docker, "from_env", lambda: client)
    monkeypatch.setattr(watchdog.sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    watchdog.main("ours", "--containers")
    assert removed == [("ours", True)]


# The MLflow page

SERVER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
PAGE = """
from pathlib import Path
from headstart_pipelines.ui import serve
serve("sqlite:///nowhere.db", {port}, Path("ui.log"), lambda: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_the_mlflow_pages_server_and_its_workers_end_with_the_command(number, tmp_path):
    (tmp_path / "mlflow").mkdir()
    # A package, since a folder alone would come after the real one.
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text(SERVER)
    program = PAGE.format(port=random.Random(number).randrange(20000, 30000))  # noqa: S311
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        deadline = time.monotonic() + 60
        # The watchdog, the server and its worker.
        while len(descendants(process)) < 3 and time.monotonic() < deadline:
            os.sched_yield()
        assert end(process, number) == []


# A run


def run_killed(place: Path, data: Path, *, at: str, workspace: Path) -> None:
    """Runs an endless training and kills the command where its log has `at`; nothing of it is alive afterwards."""
    (place / "endless.yaml").write_text(
        json.dumps(
            {"name": "two", "source": {"data": {"uri": str(data), "size": 8}, "pretraining": {"epochs": 10_000}}}
        )
    )
    command = [
        sys.executable, "-m", "headstart_pipelines.cli",
        "run", str(place / "endless.yaml"), "--workspace", str(workspace), "--verbose",
    ]  # fmt: skip
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        # Should that line never come, this test fails instead of waiting for ever.
        watch = threading.Timer(120, process.kill)
        watch.start()
        assert any(re.search(at, line) for line in process.stdout), at
        watch.cancel()
        assert end(process, signal.SIGKILL) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_the_next_command_ends_its_record(cli, images, tmp_path, caplog):
    data = tmp_path / "data"
    for label in "01":
        (data / label).mkdir(parents=True)
        for file in sorted((images / "digits" / label).iterdir())[:12]:
            shutil.copy(file, data / label)
    workspace = tmp_path / "workspace"

    run_killed(tmp_path, data, at="Executing task 'pretrain'", workspace=workspace)
    cli("lineage", "two-source", "--workspace", workspace)

    assert "was killed and could not say so" in caplog.text
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    states = {run.info.run_name: run.info.status for run in client.search_runs(["1"])}
    assert states.pop("prepare-source") == "FINISHED"
    assert set(states.values()) == {"KILLED"}


# How often runs of a recipe that ends, one after the other in one workspace, are killed.
_MOMENTS = 20


def printing(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def moments(command: list[str]) -> list[tuple[int, float]]:
    """Every moment between two lines that a command prints: lines that it has printed by then, seconds to the next.

    Moments counted from the command's start would depend on how busy the machine is: they all fell into the imports, or
    behind its end.
    """
    with printing(command) as process:
        printed = [time.monotonic() for _ in process.stdout]
    assert process.returncode == 0
    return [(lines, after - before) for lines, (before, after) in enumerate(itertools.pairwise(printed), start=1)]


@pytest.mark.slow
def test_runs_that_are_killed_at_any_moment_leave_no_process_and_no_running_record_and_the_next_goes_on(
    cli, images, tmp_path
):
    sections = {"uri": str(images / "digits"), "size": 8}
    (tmp_path / "two.yaml").write_text(
        json.dumps({"name": "two", "source": {"data": sections, "pretraining": {"epochs": 5}}})
    )
    command = [sys.executable, "-m", "headstart_pipelines.cli", "run", "two.yaml", "--verbose", "--workspace"]
    drawn = random.Random(0)  # noqa: S311
    # In order, since what a run has finished is not done again by the next.
    for lines, gap in sorted(drawn.choices(moments([*command, "measured"]), k=_MOMENTS)):
        with printing([*command, "workspace"]) as process:
            for _ in itertools.islice(process.stdout, lines):
                pass
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(drawn.uniform(0, gap))
            if process.poll() is None:
                assert end(process, signal.SIGKILL) == []
            else:
                # The next ones have no more to do, and print no more.
                assert process.returncode == 0
                break

    answer = cli("run", "two.yaml", "--workspace", "workspace")

    assert answer.code == 0, answer.err
    assert "models:/two-source/1" in answer.out
    client = MlflowClient(f"sqlite:///{tmp_path / 'workspace' / 'mlflow.db'}")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert {run.info.status for run in runs} == {"KILLED", "FINISHED"}
