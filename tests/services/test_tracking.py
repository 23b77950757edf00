"""Steps as processes of their own against the real server, which is stopped, started and cut off while they run."""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from headstart.tracking.client import connect
from headstart.tracking.names import PARENT_RUN, PIPELINE_RUN
from headstart.tracking.runs import child_run, end_with_steps, experiment_named, new_parent
from tests.services.servers import free_ports

pytestmark = pytest.mark.services

_SECONDS = 240

# Does what it is told, a line each, and answers each line when it is done.
_STEP = """
import sys
from pathlib import Path
from headstart.tracking.runs import step_run

def step(name):
    with step_run("tracking", name, role="target") as run:
        print("run", run.id, flush=True)
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "epoch":
                run.log_epoch(int(argument), {"train/loss": 1 / int(argument), "val/accuracy": 0.5})
            elif command == "flush":
                run.flush()
            elif command == "rest":
                run.log_params({"seed": 7, "split": {"train": 0.5}})
                run.log_metrics({"time/seconds": 2.5})
                run.set_tags({"headstart.chosen": "true"})
                run.log_artifact(Path(argument))
            else:
                return
            print("done", line.strip(), flush=True)

print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[1:]:
    step(name)
"""


class Step:
    """A step's process; `names` are the runs that it makes, one after the other."""

    def __init__(self, home: Path, *names: str, **environment: str) -> None:
        self.errors = home / f"{'-'.join(names)}-{id(self)}.log"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _STEP, *names],
                cwd=home,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.answer() == "ready"

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def answer(self) -> str:
        return self._lines.get(timeout=_SECONDS)

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def do(self, line: str) -> None:
        self.tell(line)
        assert self.answer() == f"done {line}", self.errors.read_text()

    def begin(self) -> str:
        self.tell("begin")
        return self.run()

    def run(self) -> str:
        """The id of the run that the step has now."""
        word, _, run = self.answer().partition(" ")
        assert word == "run", self.errors.read_text()
        return run

    def end(self) -> None:
        self.tell("end")
        assert self.process.wait(timeout=_SECONDS) == 0, self.errors.read_text()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text("<p>The report.")
    return tmp_path


@pytest.fixture
def experiment(record) -> str:
    return experiment_named(record, "tracking")


@pytest.fixture
def parent(record, experiment, monkeypatch):
    run = new_parent(record, experiment, name="tracking", pipeline_run="local-1")
    monkeypatch.setenv("HEADSTART_PARENT_RUN_ID", run.id)
    return run


@contextmanager
def stopped(stack) -> Iterator[None]:
    """The server is away; afterwards it runs again, whatever happened."""
    stack.stop_mlflow()
    try:
        yield
    finally:
        stack.start_mlflow()


def epochs(record, run: str, metric: str = "train/loss") -> list[int]:
    return [entry.step for entry in record.get_metric_history(run, metric)]


def test_nothing_is_lost_when_the_server_is_restarted_in_mid_run_and_training_does_not_wait_for_it(
    stack, record, parent, home
):
    step = Step(home, "finetune")
    run = step.begin()
    for epoch in range(1, 4):
        step.do(f"epoch {epoch}")
    with stopped(stack):
        # Answered while nobody is there to write to.
        for epoch in range(4, 41):
            step.do(f"epoch {epoch}")
        step.tell(f"rest {home / 'report.html'}")
    assert step.answer().startswith("done rest"), step.errors.read_text()
    step.end()
    found = record.get_run(run)
    assert found.info.status == "FINISHED"
    assert epochs(record, run) == epochs(record, run, "val/accuracy") == list(range(1, 41))
    assert (found.data.params["seed"], found.data.params["split.train"]) == ("7", "0.5")
    assert (found.data.metrics["time/seconds"], found.data.tags["headstart.chosen"]) == (2.5, "true")
    assert [file.path for file in record.list_artifacts(run)] == ["report.html"]
    said = step.errors.read_text()
    assert "A server does not answer" in said
    assert "Traceback" not in said
    assert "Retrying" not in said


def test_the_end_of_a_run_waits_for_a_server_that_is_restarted(stack, record, parent, home):
    step = Step(home, "finetune")
    run = step.begin()
    step.do("epoch 1")
    with stopped(stack):
        step.tell("end")
    assert step.process.wait(timeout=_SECONDS) == 0, step.errors.read_text()
    assert record.get_run(run).info.status == "FINISHED"
    assert epochs(record, run) == [1]


def test_a_step_that_is_killed_after_a_flush_has_lost_nothing(record, parent, home):
    step = Step(home, "finetune")
    run = step.begin()
    for epoch in range(1, 21):
        step.do(f"epoch {epoch}")
    step.do("flush")
    step.process.kill()
    step.process.wait(timeout=_SECONDS)
    assert epochs(record, run) == epochs(record, run, "val/accuracy") == list(range(1, 21))
    end_with_steps(parent, "FAILED")
    assert [record.get_run(each).info.status for each in (run, parent.id)] == ["KILLED", "FAILED"]


def test_a_step_that_is_terminated_has_lost_nothing_and_ends_as_killed(record, parent, home):
    step = Step(home, "finetune")
    run = step.begin()
    for epoch in range(1, 21):
        step.do(f"epoch {epoch}")
    step.process.terminate()
    assert step.process.wait(timeout=_SECONDS) == 128 + signal.SIGTERM
    assert record.get_run(run).info.status == "KILLED"
    assert epochs(record, run) == list(range(1, 21))


def test_a_step_waits_for_a_server_that_is_just_starting_and_says_so(stack, record, parent, home):
    step = Step(home, "finetune")
    with stopped(stack):
        step.tell("begin")
        deadline = time.monotonic() + _SECONDS
        while "Waiting" not in step.errors.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    run = step.run()
    step.end()
    assert record.get_run(run).info.status == "FINISHED"
    (line,) = step.errors.read_text().splitlines()
    assert f"{stack.uri} does not answer" in line
    assert "Waiting for it" in line


def test_a_server_that_is_down_is_one_clear_sentence_on_the_command_line(home):
    address = f"http://ann:canary@127.0.0.1:{free_ports(1)[0]}"
    for command in (["compare", "tracking"], ["lineage", "tracking-source"], ["history", "tracking-target"]):
        done = subprocess.run(
            [sys.executable, "-m", "headstart_pipelines.cli", *command],
            env=os.environ | {"MLFLOW_TRACKING_URI": address},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
        assert "does not answer" in done.stderr
        assert "MLFLOW_TRACKING_URI" in done.stderr
        assert "canary" not in done.stderr + done.stdout


def test_steps_that_start_together_on_a_cluster_share_one_parent(record, experiment, home):
    steps = [Step(home, f"strategy-{number}", KFP_RUN_ID="kfp-parallel") for number in range(4)]
    for step in steps:
        step.tell("begin")
    children = [step.run() for step in steps]
    for step in steps:
        step.end()
    parents = record.search_runs([experiment], f"tags.`{PIPELINE_RUN}` = 'kfp-parallel'")
    assert len(parents) == 1
    for child in map(record.get_run, children):
        assert child.data.tags[PARENT_RUN] == parents[0].info.run_id
        assert child.info.status == "FINISHED"


def test_steps_with_injected_runs_share_the_plugins_parent_and_further_runs_become_its_children(
    record, experiment, home
):
    plugin_parent = record.create_run(experiment, run_name="kfp").info.run_id
    injected = [record.create_run(experiment, tags={PARENT_RUN: plugin_parent}).info.run_id for _ in range(2)]
    finetune = Step(home, "finetune", KFP_RUN_ID="kfp-injected", MLFLOW_RUN_ID=injected[0])
    baselines = Step(home, "scratch", "classical", KFP_RUN_ID="kfp-injected", MLFLOW_RUN_ID=injected[1])
    assert (finetune.begin(), baselines.begin()) == tuple(injected)
    baselines.tell("end")
    second = baselines.run()
    for step in (finetune, baselines):
        step.do("epoch 1")
        step.end()
    found = {run: record.get_run(run) for run in (*injected, second)}
    assert {run.data.tags[PARENT_RUN] for run in found.values()} == {plugin_parent}
    # KFP ends those that it made.
    assert [run.info.status for run in found.values()] == ["RUNNING", "RUNNING", "FINISHED"]
    assert [run.info.run_name for run in found.values()] == ["finetune", "scratch", "classical"]
    assert (epochs(record, injected[0]), epochs(record, second)) == ([1], [1])
    marked = record.search_runs([experiment], f"tags.`{PIPELINE_RUN}` = 'kfp-injected'")
    assert [run.info.run_id for run in marked] == [plugin_parent]


def test_a_connection_that_breaks_before_the_answer_comes_makes_no_second_run(stack, record, experiment, monkeypatch):
    with cut_off(stack.port, after="/runs/create") as (address, broke):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        parent = new_parent(connect(), experiment, name="tracking", pipeline_run="cut-off")
        assert broke.is_set()
        broke.clear()
        child = child_run(parent, "finetune", {})
        assert broke.is_set()
    parents = record.search_runs([experiment], f"tags.`{PIPELINE_RUN}` = 'cut-off'")
    children = record.search_runs([experiment], f"tags.`{PARENT_RUN}` = '{parent.id}'")
    assert [run.info.run_id for run in [*parents, *children]] == [parent.id, child.id]


@contextmanager
def cut_off(port: int, *, after: str) -> Iterator[tuple[str, threading.Event]]:
    """A way to the server at `port` that breaks once, when the server has done what `after` asks for and before its
    answer is passed on. Gives its address and the event that it broke; cleared, it breaks once more."""
    broke = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection("127.0.0.1", port)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            if after in self.path and not broke.is_set():
                broke.set()
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *arguments):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_port}", broke
    proxy.shutdown()
    proxy.server_close()
