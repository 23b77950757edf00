"""What Ctrl-C leaves behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient


def processes_that_mention(text: str) -> list[str]:
    """The command lines of this machine's processes in which `text` occurs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are listed in /proc, as on Linux")
def test_an_interrupted_run_ends_its_step_starts_no_other_and_says_so_in_the_record(images, tmp_path):
    sections = {
        "name": "digits",
        "source": {"data": {"uri": str(images / "mnist"), "size": 16}, "pretraining": {"epochs": 10_000}},
        "target": {"data": {"uri": str(images / "digits"), "size": 16}},
    }
    (tmp_path / "endless.yaml").write_text(yaml.safe_dump(sections))
    workspace = tmp_path / "workspace"
    command = [
        sys.executable,
        "-m",
        "headstart_pipelines.cli",
        "run",
        "endless.yaml",
        "--workspace",
        str(workspace),
        "--verbose",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        # Should the run not end by itself, this test fails instead of waiting for ever.
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        for line in process.stdout:
            if "Executing task 'pretrain'" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate()
        watchdog.cancel()

    assert process.returncode == 130
    assert err.splitlines()[-1] == "headstart: Interrupted. The same command goes on from what is done."
    assert set(re.findall("Executing task '(.*?)'", out)) <= {"pretrain"}
    assert "✗ pretrain" in out
    assert processes_that_mention(str(workspace)) == []
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    states = {run.info.run_name: run.info.status for run in client.search_runs(["1"])}
    assert states.pop("prepare-source") == "FINISHED"
    # The target's data are prepared beside the source's.
    assert states.pop("prepare-target", "FINISHED") in ("FINISHED", "KILLED")
    assert states.pop("pretrain", "KILLED") == "KILLED"
    assert set(states.values()) == {"KILLED"}
