"""Recipes run by the command line on small real data, each once a session, and the record that they left."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from kfp.dsl import pipeline_task
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from headstart.judging.leaderboard import Leaderboard
from headstart_pipelines.cli import main
from headstart_pipelines.demo import digits, mnist_5k, write_folder

Once = Callable[[str, Callable[[Path], None]], Path]

ROOT = Path(__file__).parents[2]

# Stand for the credentials that a person's environment holds; no file of a run may hold them.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "an-access-key-id-that-nobody-may-see",
    "AWS_SECRET_ACCESS_KEY": "a-secret-access-key-that-nobody-may-see",
    "MLFLOW_TRACKING_PASSWORD": "a-password-that-nobody-may-see",
    "MLFLOW_TRACKING_TOKEN": "a-token-that-nobody-may-see",
}


@pytest.fixture(autouse=True, scope="session")
def quick_compiler() -> Iterator[None]:
    """Each setting of a step asks KFP for its caller's name, for an error message, and for that Python looks through
    all modules that are loaded: beneath pytest, ten seconds a pipeline."""

    def stack() -> list[tuple[Any, ...]]:
        caller = sys._getframe(2)
        return [(), (caller, caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_name)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=stack))
        yield


@pytest.fixture(scope="session")
def credentials() -> dict[str, str]:
    """The credentials in the environment of every `headstart run` of these tests."""
    return CREDENTIALS


@dataclass(frozen=True)
class Execution:
    """One `headstart run` that has ended, and the registry's versions before and after it."""

    workspace: Path
    code: int
    out: str
    err: str
    before: dict[str, list[str]]
    after: dict[str, list[str]]

    @property
    def log(self) -> Path:
        """The complete log, where the command says that it is."""
        found = re.search(r"(?:^log +|The complete log is )(.*\.log)", self.out + self.err, re.MULTILINE)
        assert found, self.out + self.err
        return self.workspace.parent / found[1]

    @property
    def client(self) -> MlflowClient:
        """The workspace's MLflow store."""
        return client_of(self.workspace)

    @property
    def parent(self) -> Run:
        """The pipeline run's parent, which carries the log's name."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        (found,) = self.client.search_runs(experiments, f"attributes.run_name = '{self.log.stem}'")
        return found

    @property
    def children(self) -> dict[str, Run]:
        """The parent's child runs by name, of which each may be used once."""
        found = self.client.search_runs(
            [self.parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{self.parent.info.run_id}'"
        )
        names = [run.info.run_name for run in found]
        assert len(set(names)) == len(names), names
        return dict(zip(names, found, strict=True))

    @property
    def reused(self) -> list[str]:
        """The steps that the command says were reused."""
        return re.findall(r"^  ↺ (.*?)  +reused$", self.out, re.MULTILINE)

    @property
    def worked(self) -> list[str]:
        """The steps that the command says were run."""
        return re.findall(r"^  ✓ (.*?)  +\d+\.\d s$", self.out, re.MULTILINE)

    @property
    def folder(self) -> Path:
        """Where kfp kept the artifacts of the steps that this run did not reuse."""
        (name,) = set(re.findall(re.escape(f"{self.workspace}/pipeline/") + "([^/]+)/evaluate/", self.log.read_text()))
        return self.workspace / "pipeline" / name

    @property
    def leaderboard(self) -> Leaderboard:
        """The leaderboard artifact."""
        return Leaderboard.from_json((self.folder / "evaluate" / "leaderboard").read_text())

    def artifact(self, step: str, name: str) -> tuple[Path, dict[str, Any]]:
        """The path and the metadata of the artifact `name` that `step` put out."""
        artifacts = json.loads((self.folder / step / "executor_output.json").read_text())["artifacts"]
        return self.folder / step / name, artifacts[name]["artifacts"][0].get("metadata", {})


def client_of(workspace: Path) -> MlflowClient:
    """A client of the workspace's MLflow store."""
    return MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")


def versions(workspace: Path) -> dict[str, list[str]]:
    """The version numbers of each registered model."""
    if not (workspace / "mlflow.db").exists():
        return {}
    found: dict[str, list[str]] = {}
    for version in client_of(workspace).search_model_versions():
        found.setdefault(version.name, []).append(str(version.version))
    return {name: sorted(numbers) for name, numbers in sorted(found.items())}


def execute(place: Path, recipe: Path, workspace: Path, *options: str) -> None:
    """Runs a recipe as a person does, and writes down in `place` what came of it.

    Metadata pass between the steps as they do on a cluster.
    """
    temporary = place / "temporary"
    temporary.mkdir()
    before = versions(workspace)
    environment = {**os.environ, **CREDENTIALS, "TMPDIR": str(temporary)}
    command = f"import sys; sys.path.append({str(ROOT)!r}); from tests.pipelines.as_kubeflow import main; main()"
    # What keeps mlflow quiet is headstart's, not the tests'.
    del environment["MLFLOW_LOGGING_LEVEL"]
    done = subprocess.run(
        [sys.executable, "-c", command, "run", str(recipe), "--workspace", str(workspace), *options],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    execution = Execution(workspace, done.returncode, done.stdout, done.stderr, before, versions(workspace))
    (place / "execution.json").write_text(json.dumps(asdict(execution), default=str))


def executed(place: Path) -> Execution:
    """What `execute` wrote down."""
    values = json.loads((place / "execution.json").read_text())
    return Execution(**{**values, "workspace": Path(values["workspace"])})


def write_recipe(path: Path, **sections: Any) -> Path:
    """A recipe file."""
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="session")
def images(once: Once) -> Path:
    """mnist/ with 80 images a class and digits/ with 60, as image folders."""

    def make(folder: Path) -> None:
        for name, load, count in (("mnist", mnist_5k, 80), ("digits", digits, 60)):
            pictures, labels = load()
            keep = np.sort(np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(10)]))
            write_folder(pictures[keep], labels[keep], folder / name)

    return once("images", make)


def _sections(images: Path) -> dict[str, Any]:
    shares = {"train": 0.3, "val": 0.2, "test": 0.5}
    return {
        "name": "digits",
        # Of more labels, `classical` is better than what so short a pretraining gives, and would be delivered.
        "source": {"data": {"uri": str(images / "mnist"), "size": 16}, "pretraining": {"epochs": 16}},
        "target": {"data": {"uri": str(images / "digits"), "size": 16, "labels_per_class": 2, "split": shares}},
        "training": {"epochs": 2},
    }


@pytest.fixture(scope="session")
def first(once: Once, images: Path) -> Execution:
    """The pipeline `transfer` with every kind of strategy and both baselines, in a workspace that nothing else uses."""

    def make(place: Path) -> None:
        recipe = write_recipe(
            place / "digits.yaml",
            **_sections(images),
            strategies=["zero", "partial", "full"],
            # So that what is delivered is a strategy's own model.
            evaluation={"combinations": [], "seeds": 1, "curve_training": False},
        )
        execute(place, recipe, place / "workspace")

    return executed(once("first", make))


@pytest.fixture(scope="session")
def fresh(once: Once, images: Path) -> Execution:
    """The same experiment in another fresh workspace, with some of the contenders of `first` and no closer look."""

    def make(place: Path) -> None:
        recipe = write_recipe(
            place / "digits.yaml",
            **_sections(images),
            strategies=["full"],
            baselines=["scratch"],
            evaluation={"curve": [], "robustness": 0, "explanations": 0, "seeds": 1},
        )
        execute(place, recipe, place / "workspace")
        (place / "own").mkdir()
        # Now, while nothing else writes into it.
        shutil.copy(place / "workspace" / "mlflow.db", place / "own")

    return executed(once("fresh", make))


@pytest.fixture
def own(fresh: Execution, tmp_path: Path) -> Execution:
    """`fresh` with a record of its own, for a test that changes it; the artifacts are those of `fresh`."""
    workspace = shutil.copytree(fresh.workspace.parent / "own", tmp_path / "own")
    return replace(fresh, workspace=workspace)


@pytest.fixture
def unlabelled(images: Path, tmp_path: Path) -> Path:
    """Digits in one folder, as they come."""
    folder = tmp_path / "new"
    folder.mkdir()
    for number, path in enumerate(sorted((images / "digits").glob("*/*.png"))[::3]):
        (folder / f"{number}.png").write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def inverted(unlabelled: Path, tmp_path: Path) -> Path:
    """The same digits, dark on light."""
    folder = tmp_path / "inverted"
    folder.mkdir()
    for path in unlabelled.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(folder / path.name)
    return folder


@pytest.fixture(scope="session")
def again(once: Once, fresh: Execution) -> Execution:
    """The very recipe of `fresh` a second time in its workspace."""
    recipe = fresh.workspace.parent / "digits.yaml"
    return executed(once("again", lambda place: execute(place, recipe, fresh.workspace)))


@pytest.fixture(scope="session")
def changed(once: Once, fresh: Execution, again: Execution) -> Execution:
    """The recipe of `fresh` in its workspace once more, with another strategy beside the old one."""
    recipe = fresh.workspace.parent / "digits.yaml"
    options = ["--set", "strategies=[zero, full]"]
    return executed(once("changed", lambda place: execute(place, recipe, fresh.workspace, *options)))


@dataclass(frozen=True)
class Answer:
    """What a command that was called in this process answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Calls the command line; an exception that it lets through fails the test."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()

        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def small(once: Once, images: Path) -> Execution:
    """The pipeline `pretrain` on two classes that lie in a folder of their own."""

    def make(place: Path) -> None:
        for label in "01":
            shutil.copytree(images / "digits" / label, place / "data" / label)
        source = {"data": {"uri": str(place / "data"), "size": 8}, "pretraining": {"epochs": 1}}
        execute(place, write_recipe(place / "two.yaml", name="two", source=source), place / "workspace")

    return executed(once("small", make))


def contents(folder: Path) -> dict[str, str]:
    """The digest of each file below `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="session")
def copied(once: Once, small: Execution) -> Execution:
    """The recipe of `small` in a copy of its workspace in which the packed data set is damaged; beside it, what that
    changed in the original."""

    def make(place: Path) -> None:
        before = contents(small.workspace)
        workspace = shutil.copytree(small.workspace, place / "workspace")
        (packed,) = workspace.glob("pipeline/*/prepare-data/dataset/train.npy")
        packed.write_bytes(packed.read_bytes()[:-1] + b"!")
        execute(place, small.workspace.parent / "two.yaml", workspace)
        changed = sorted(dict(before.items() ^ contents(small.workspace).items()))
        (place / "changed.json").write_text(json.dumps(changed))

    return executed(once("copied", make))


# Not beside `copied`, as it changes the workspace and the data.
@pytest.fixture(scope="session")
def grown(once: Once, images: Path, small: Execution, copied: Execution) -> Execution:
    """The recipe of `small` in its workspace after one more picture came into its folder."""

    def make(place: Path) -> None:
        home = small.workspace.parent
        shutil.copyfile(images / "mnist" / "0" / "0000.png", home / "data" / "0" / "new.png")
        execute(place, home / "two.yaml", small.workspace)

    return executed(once("grown", make))


@pytest.fixture(scope="session")
def failed(once: Once, images: Path, small: Execution, copied: Execution) -> Execution:
    """A recipe whose data turn out unusable only when the step prepares them."""

    def make(place: Path) -> None:
        shutil.copytree(images / "digits" / "0", place / "data" / "0")
        (place / "data" / "1").mkdir()
        (place / "data" / "1" / "text.png").write_text("no picture")
        source = {"data": {"uri": str(place / "data"), "size": 8}}
        execute(place, write_recipe(place / "broken.yaml", name="broken", source=source), small.workspace)

    return executed(once("failed", make))
