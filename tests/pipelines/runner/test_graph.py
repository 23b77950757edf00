"""The runner does with a package what kfp.local does, and what a cluster does."""

import builtins
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, local

from headstart.errors import InputError
from headstart_pipelines.runner.graph import StepFailedError, count_steps
from headstart_pipelines.runner.journal import Journal
from headstart_pipelines.runner.package import Package, threads_of
from headstart_pipelines.runner.processes import Processes
from headstart_pipelines.runner.run_package import Ended, run_package
from tests.pipelines.cluster.backend import Pods
from tests.pipelines.runner import graphs

ROOT = Path(__file__).parents[3]
ROWS = [{"name": "first", "size": 1}, {"name": "second", "size": 20}]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps find this package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with Processes(modules=["tests.pipelines.runner.steps"]) as made:
            yield made


def compiled(pipeline: Any, place: Path) -> Path:
    """The package of a pipeline."""
    file = place / "package.yaml"
    compiler.Compiler().compile(pipeline, str(file))
    return file


@pytest.fixture
def run(processes: Processes, tmp_path: Path) -> Callable[..., Ended]:
    """Runs a pipeline; the journal's file is `log` in the temporary folder."""

    def call(pipeline: Any, workspace: str = "workspace", **arguments: Any) -> Ended:
        with (tmp_path / "log").open("w") as file:
            journal = Journal(file, None)
            package = Package.load(compiled(pipeline, tmp_path))
            return run_package(package, arguments, tmp_path / workspace, processes, journal)

    return call


def written(root: Path, pipeline: str) -> dict[str, Any]:
    """What the steps of the one run below `root` wrote, by place and file, without the folder's own name."""
    (folder,) = root.glob(f"{pipeline}-*")
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = file.read_text().replace(str(folder), "FOLDER")
        # kfp.local does not tell nested graphs apart by folders, and tells numbers as doubles.
        found[re.sub("^(inner|inner-2)/", "", file.relative_to(folder).as_posix())] = json.loads(text)
    return found


def test_every_kind_of_task_gets_and_gives_what_it_does_under_kfp_local(run, tmp_path, monkeypatch):
    # kfp.local puts its own in print's place; steps side by side leave one of them there.
    monkeypatch.setattr(builtins, "print", print)
    run(graphs.all_kinds, word="abc", rows=ROWS)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # kfp warns of an image without Python.
        warnings.simplefilter("ignore")
        graphs.all_kinds(word="abc", rows=ROWS)
    ours, theirs = (written(tmp_path / place, "all-kinds") for place in ("workspace/pipeline", "kfp"))
    assert len(ours) > 20
    assert ours == theirs


def _text(found: dict[str, Any]) -> tuple[str, str]:
    return found["text"], str(found.get("table"))


def test_a_cluster_starts_the_same_steps_and_tells_them_the_same(run, tmp_path):
    run(graphs.looped, word="ab", rows=ROWS)
    ours = written(tmp_path / "workspace" / "pipeline", "looped")
    pods = Pods(compiled(graphs.looped, tmp_path).read_text(), tmp_path / "pods", {"PYTHONPATH": str(ROOT)}, "run")
    assert pods.run({"word": "ab", "rows": ROWS}) == "SUCCEEDED"
    assert sorted(pods.started) == ["close", "make", "make-2 first", "make-2 second", "say"]
    for name in ("data", "model"):
        here = [found for place, found in ours.items() if place.endswith(f"/{name}")]
        there = [json.loads(path.read_text()) for path in (tmp_path / "pods").glob(f"*/{name}")]
        # By value: the stand-in hands whole numbers on as the compiler writes them, as doubles.
        assert sorted(here, key=_text) == sorted(there, key=_text)
    (said,) = (json.loads(path.read_text()) for path in (tmp_path / "pods").glob("*say/seen"))
    assert ours["say/seen"] == said == {"text": "ab-2"}


def test_without_kfp_steps_get_and_give_the_same(run, tmp_path, monkeypatch):
    run(graphs.all_kinds, word="abc", rows=ROWS)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['kfp'] = None")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hidden), str(ROOT)]))
    with Processes(modules=["tests.pipelines.runner.steps"]) as processes, (tmp_path / "log").open("w") as file:
        package = Package.load(compiled(graphs.all_kinds, tmp_path))
        given = {"word": "abc", "rows": ROWS}
        run_package(package, given, tmp_path / "without", processes, Journal(file, None))
    assert written(tmp_path / "without" / "pipeline", "all-kinds") == written(
        tmp_path / "workspace" / "pipeline", "all-kinds"
    )


def test_a_local_run_imports_no_kfp_and_leaves_torch_to_its_steps():
    program = (
        "import sys, headstart_pipelines.local, headstart_pipelines.packages, headstart_pipelines.resolve\n"
        "import headstart_pipelines.display\n"
        "print([name for name in ('kfp', 'torch', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_failed_step_is_explained_what_follows_is_left_out_and_the_exit_task_runs(run, tmp_path):
    with pytest.raises(StepFailedError):
        run(graphs.failing, word="bread")
    log = (tmp_path / "log").read_text()
    assert "ValueError: no bread" in log
    assert "Executing task 'say'" not in log
    ours = written(tmp_path / "workspace" / "pipeline", "failing")
    assert ours["close/seen"] == {"state": "FAILED", "task": "exit-handler-1", "code": None}


def test_a_step_that_is_killed_is_one_failed_step_and_the_runner_goes_on(run, tmp_path):
    with pytest.raises(StepFailedError):
        run(graphs.dying, word="here")
    log = (tmp_path / "log").read_text()
    assert "here before" in log
    assert "MemoryError: the step was killed, most likely because memory ran out." in log
    run(graphs.reporting, "another")


def test_what_was_done_is_taken_over_unless_it_changed(run, tmp_path):
    run(graphs.all_kinds, word="abc", rows=ROWS)
    again = run(graphs.all_kinds, word="abc", rows=[*ROWS, {"name": "third", "size": 3}])
    log = (tmp_path / "log").read_text()
    assert {"make", "make-2 first", "make-2 second"} <= set(again.reused)
    assert re.findall("Executing task '(.*?)'", log) == ["make-2", "use"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"word": "a"}, "parameter rows has neither"), ({"word": "a", "rows": [], "size": 1}, "no parameter size")],
)
def test_arguments_that_do_not_fit_are_refused_before_any_step(run, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        run(graphs.all_kinds, **arguments)
    assert not (tmp_path / "workspace" / "pipeline").exists()


def test_what_no_local_run_does_is_refused_before_any_step(tmp_path):
    spec = next(yaml.safe_load_all(compiled(graphs.reporting, tmp_path).read_text()))
    spec["deploymentSpec"]["executors"]["exec-report"] = {"importer": {}}
    with pytest.raises(InputError, match="exec-report is a importer, which no local run does"):
        Package(spec)
    (tmp_path / "other.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="is no compiled pipeline"):
        Package.load(tmp_path / "other.yaml")


def test_a_run_knows_how_many_steps_it_has(tmp_path):
    package = Package.load(compiled(graphs.all_kinds, tmp_path))
    # Of three branches one runs, which is not known beforehand.
    assert count_steps(package, {"rows": ROWS}) == len(package.steps) + len(ROWS) - 1


def test_a_step_that_nothing_runs_beside_has_all_cores_and_others_share_them(tmp_path):
    from headstart_pipelines.packages import packaged
    from headstart_pipelines.step_kinds import LIGHT_STEPS

    threads = threads_of(packaged("transfer"), cores=8, at_once=4, light=LIGHT_STEPS)
    alone = {name.removeprefix("comp-") for name, count in threads.items() if count == 8}
    assert alone >= {"pretrain", "select-source", "evaluate", "close-record"}
    assert {threads["comp-finetune"], threads["comp-fit-baselines"], threads["comp-prepare-data-2"]} == {2}
