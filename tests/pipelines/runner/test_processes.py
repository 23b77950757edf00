"""Steps as processes: each is its own, whether it is forked or started fresh."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headstart_components.warm import _ENOUGH, MODULES
from headstart_pipelines.runner.processes import SINGLE_THREADED, Processes, Step, _Running, _signal

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps find this package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(params=[True, False], ids=["forked", "fresh"])
def processes(request: pytest.FixtureRequest, importable: None) -> Iterator[Processes]:
    with Processes(forking=request.param, modules=["tests.pipelines.runner.steps"]) as made:
        yield made


def step(name: str, place: Path, threads: int = 1, **parameters: Any) -> Step:
    """A step that writes to `place`."""
    made = {"artifacts": [{"name": "seen", "uri": str(place / "seen"), "type": {}, "metadata": {}}]}
    outputs = {"artifacts": {"seen": made} if name == "report" else {}, "outputFile": str(place / "output.json")}
    source = f"from tests.pipelines.runner.steps import {name}\n"
    return Step(
        {"command": ["sh", source]}, {"inputs": {"parameterValues": parameters}, "outputs": outputs},
        {"OF_THE_STEP": "set"}, threads, place,
    )  # fmt: skip


def test_a_step_has_a_session_and_an_environment_of_its_own(processes, tmp_path):
    assert processes.run(step("report", tmp_path), print) == 0
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["found"][2] is True
    assert seen["variable"] == "set"
    assert "OF_THE_STEP" not in os.environ


def test_a_step_that_the_system_killed_says_why_that_is_likely(processes, tmp_path):
    lines: list[str] = []
    assert processes.run(step("die", tmp_path, text="x"), lines.append) == -9
    assert [line.strip() for line in lines] == [
        "x before", "MemoryError: the step was killed, most likely because memory ran out."
    ]  # fmt: skip


def test_a_step_that_failed_gives_its_status_and_its_traceback(processes, tmp_path):
    lines: list[str] = []
    assert processes.run(step("fail", tmp_path, text="x"), lines.append) == 1
    assert lines[-1].strip() == "ValueError: no x"


def test_a_step_that_ends_lets_its_threads_and_exit_handlers_finish(processes, tmp_path):
    lines: list[str] = []
    assert processes.run(step("end_slowly", tmp_path, text="x"), lines.append) == 0
    assert [line.strip() for line in lines] == ["x in a thread", "x at exit"]


def test_a_step_that_exits_gives_its_status_or_its_words(processes, tmp_path):
    lines: list[str] = []
    assert processes.run(step("leave", tmp_path, text="3"), lines.append) == 3
    assert not lines
    assert processes.run(step("leave", tmp_path, text="no x"), lines.append) == 1
    assert [line.strip() for line in lines] == ["no x"]


def test_after_a_stop_no_step_is_started(processes, tmp_path):
    processes.stop()
    assert processes.run(step("report", tmp_path), print) == 143
    assert not (tmp_path / "seen").exists()


def test_a_warm_process_that_is_gone_is_a_failed_step_and_no_endless_wait(tmp_path):
    with Processes(forking=True, modules=["json"]) as processes:
        assert processes._warm
        processes._warm._process.kill()
        processes._warm._process.wait()
        assert processes.run(step("report", tmp_path), print) == -9


@pytest.mark.slow
def test_the_warm_process_has_one_thread_and_has_computed_nothing_when_it_forks():
    """In a forked process another thread's locks would be held for ever, and OpenMP's threads would be missing."""
    program = (
        "import importlib, os, sys\n"
        f"for name in {list(MODULES)!r}: importlib.import_module(name)\n"
        "import torch, threading\n"
        "print(len(os.listdir('/proc/self/task')), threading.active_count(), torch.cuda.is_initialized())\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    torch.set_num_threads(2)\n"
        "    torch.nn.functional.conv2d(torch.ones(8, 8, 32, 32), torch.ones(8, 8, 3, 3)).sum()\n"
        "    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **SINGLE_THREADED},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1", "False", "0"]


def test_a_step_that_leads_no_group_yet_is_reached_by_itself():
    """Its process is known from the moment of its fork on, before it has made a session of its own."""
    with subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as young:  # fmt: skip
        young.stdout.readline()
        _signal(_Running(young.pid), signal.SIGTERM)
        assert young.wait(60) == -signal.SIGTERM


def test_where_all_trainings_are_reused_no_step_waits_for_what_only_trainings_need():
    assert set(_ENOUGH.values()) <= set(MODULES)
    steps = ("register", "evaluate", "close_record")
    last = max(MODULES.index(_ENOUGH[f"headstart_components.{step}.component"]) for step in steps)
    assert not {"torchvision", "headstart.judging.baselines", "headstart.strategies.methods"} & set(MODULES[: last + 1])
