"""The README's commands, each run as it is printed, in the order of the page."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from headstart.recipe.recipe import load_recipe
from headstart_pipelines import cli
from tests.cluster.shell import Outcome, Shell
from tests.cluster.stand_in import Answer, programs
from tests.commands import answer_of
from tests.docs.pages import README, ROOT, blocks, commands

DIGEST = "a" * 64
# The real one: the commands find a stand-in under its name.
MAKE = shutil.which("make") or "make"
# What these take is minutes, or they serve until they are stopped: their arguments are read, and no more is done.
READ_ONLY = ("demo", "run", "rank", "ui")
COMMANDS = [command for block in blocks(README, "console") for command in commands(block)]


def test_the_readme_has_at_most_150_lines():
    assert len(README.read_text().splitlines()) <= 150


def test_every_link_and_picture_of_the_readme_is_there():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert len(targets) > 15
    assert [target for target in targets if not (ROOT / target).exists()] == []


# The commands


def _make(arguments: list[str]) -> Answer:
    """Whether make has the target; what it does there is other tests' matter."""
    done = subprocess.run(
        [MAKE, "--dry-run", "--always-make", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _pip(arguments: list[str]) -> Answer:
    """Whether the extras that pip is asked for exist."""
    assert arguments[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [name for each in arguments for found in re.findall(r"\[(.*)\]", each) for name in found.split(",")]
    return int(not set(asked) <= set(extras)), "", ""


def _mlflow(arguments: list[str]) -> Answer:
    """Whether mlflow has that command with these options."""
    from mlflow.models.cli import commands as models

    assert arguments[:2] == ["models", "serve"]
    models.commands["serve"].make_context("serve", arguments[2:])
    return 0, "", ""


@pytest.fixture
def project(own, images: Path, tmp_path: Path) -> Path:
    """A project's folder after `make demo`, with pictures and a run of the recipe site-b."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "infra" / "profiles", folder / "infra" / "profiles")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    (folder / "photos").mkdir()
    for name, pictures in (
        ("site-a", images / "mnist"),
        ("site-b", images / "digits"),
        ("new", images / "digits" / "7"),
    ):
        (folder / "photos" / name).symlink_to(pictures)
    shutil.copytree(own.workspace, folder / ".headstart")
    client = MlflowClient(f"sqlite:///{folder / '.headstart' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment
    client.rename_experiment(experiment.experiment_id, "site-b")
    (folder / ".headstart" / "reports").mkdir()
    (folder / ".headstart" / "reports" / "digits-20260101-000000-0000.html").touch()
    return folder


@pytest.fixture
def run(project: Path, kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Outcome]]:
    """Runs a command in the project's folder, in one shell with those before it."""

    def headstart(arguments: list[str]) -> Answer:
        if arguments[0] in READ_ONLY:
            options = cli._parser().parse_args(arguments)
            if arguments[0] == "run":
                load_recipe(options.recipe, options.set)
            return 0, "", ""
        if arguments[0] in ("submit", "runs"):
            # The data is where pods see it, and the server is the stand-in.
            recipe = Path("site-b.yaml")
            recipe.write_text(recipe.read_text().replace("photos/", "s3://photos/"))
            monkeypatch.setenv("HEADSTART_KFP_HOST", kfp.host)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        return answer_of(arguments)

    # Commands in this process set it for themselves; after the test it is as it was.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    answers = {"headstart": headstart, "make": _make, "mlflow": _mlflow, "pip": _pip}
    with programs(tmp_path / "programs", answers) as folder:
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        with Shell(project, environment, lambda line: None) as shell:
            yield lambda command: shell.run(command, 120)


def test_every_command_does_what_the_readme_says(run, kfp, project, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    ended = {}
    for command in COMMANDS:
        outcome = run(command.replace("sha256:…", f"sha256:{DIGEST}"))
        ended[command] = (outcome.status, outcome.output)

    failed = {command: each for command, each in ended.items() if each[0]}
    assert failed == {}
    said = {command.split()[1]: output for command, (_, output) in ended.items() if command.startswith("headstart")}
    assert "version 1 is the champion now" in said["promote"]
    assert "digits-source" in said["lineage"]
    assert "full" in said["compare"]
    assert (project / "predictions.csv").read_text().count("\n") > 10
    assert len(kfp.runs) == 1


def test_the_readme_shows_each_of_these_commands():
    verbs = {command.split()[1] for command in COMMANDS if command.startswith("headstart ")}
    assert verbs == {
        "demo",
        "report",
        "init",
        "ui",
        "check",
        "run",
        "compare",
        "rank",
        "promote",
        "lineage",
        "predict",
        "submit",
        "runs",
    }


def _core(sections: dict[str, Any]) -> tuple[Any, ...]:
    return sections["name"], sections["source"]["data"]["uri"], sections["target"]["data"]["uri"]


def test_init_writes_the_core_of_the_recipe_that_the_readme_prints(run, project):
    (printed,) = (block for block in blocks(README, "yaml") if yaml.safe_load(block.text).get("name"))
    run(next(command for command in COMMANDS if command.startswith("headstart init")))

    assert _core(yaml.safe_load((project / "site-b.yaml").read_text())) == _core(yaml.safe_load(printed.text))
    assert "labels_per_class" in (project / "site-b.yaml").read_text()


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_printed(project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    (block,) = blocks(README, "python")
    exec(compile(block.text, "README.md", "exec"), {})  # noqa: S102

    said = capsys.readouterr().out
    assert re.search(r"^(helped|no evidence|hurt):", said, re.MULTILINE)
    assert "probability" in said


@pytest.mark.slow
def test_the_notebook_runs_cell_by_cell(tmp_path):
    """Its last expressions are what Jupyter would show, by the means that Jupyter has."""
    names: dict[str, Any] = {}
    for cell in json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            assert cell["cell_type"] == "markdown"
            continue
        assert cell["outputs"] == []
        *statements, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(statements, []), "notebook", "exec"), names)  # noqa: S102
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)  # noqa: S307
            assert (shown._repr_html_() if hasattr(shown, "_repr_html_") else repr(shown)) or shown is None
        else:
            exec(compile(ast.Module([last], []), "notebook", "exec"), names)  # noqa: S102
    assert names["result"].verdict == "helped"
    assert names["promotion"].promoted
    assert (names["answers"]["label"] == "7").mean() > 0.8


@pytest.mark.slow
def test_the_demo_ends_as_the_readme_prints_it(tmp_path: Path):
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    # What make installs first is here already.
    installed = ["-o", ".venv/.installed-demo", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        [MAKE, "-f", str(ROOT / "Makefile"), *installed, "demo"],
        cwd=tmp_path,
        # Where pytest loads readline, that exports the width of a terminal to the processes that pytest starts.
        env={key: value for key, value in os.environ.items() if key != "COLUMNS"},
        capture_output=True,
        text=True,
        check=True,
    )

    (printed,) = (block.text for block in blocks(README, "text") if block.text.startswith("strategy"))
    header = re.split(r"\s{2,}", printed.splitlines()[0].strip())
    assert header == re.split(
        r"\s{2,}", next(line for line in done.stdout.splitlines() if line.startswith("strategy")).strip()
    )
    # Other processors round in another way, so that the figures may differ; who takes part and what is found may not.
    for name in ("full-l2sp", "partial", "full", "scratch", "classical", "zero"):
        assert re.search(rf"^{name}\b.* \[.*\]", printed, re.MULTILINE)
        assert re.search(rf"^{name}\b.* \[.*\]", done.stdout, re.MULTILINE)
    assert re.search(r"^helped: ", printed, re.MULTILINE)
    assert re.search(r"^helped: ", done.stdout, re.MULTILINE)
