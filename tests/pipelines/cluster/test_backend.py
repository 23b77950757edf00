"""A whole recipe as Kubeflow's backend runs it, beside the local run of the same recipe."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from headstart.recipe.recipe import load_recipe
from headstart_pipelines import demo
from headstart_pipelines.catalog import parameters
from headstart_pipelines.cluster.submission import build_package
from headstart_pipelines.profile import Parts, load_profile
from headstart_pipelines.resolve import resolve
from tests.pipelines.cluster.backend import Pods
from tests.pipelines.cluster.conftest import IMAGE, PROFILE, ROOT
from tests.pipelines.conftest import execute, executed, write_recipe

pytestmark = pytest.mark.slow

DIGITS = ROOT / "pipelines" / "recipes" / "digits.yaml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe that ships, with its data."""
    place = tmp_path_factory.mktemp("digits")
    demo.main(place / "demo")
    sections = yaml.safe_load(DIGITS.read_text())
    for role in ("source", "target"):
        sections[role]["data"]["uri"] = str(place / sections[role]["data"]["uri"])
    path = place / "digits.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def run_on_cluster(recipe: Path, place: Path, *, parts: int | None = None) -> tuple[Pods, str]:
    """Compiles a recipe for a cluster and runs it as the backend does; the run's state."""
    resolved = resolve(load_recipe(recipe, []))
    profile = load_profile(PROFILE).model_copy(update={"preparation_parts": Parts(source=parts)})
    package = build_package(
        resolved.pipeline, image=IMAGE, profile=profile, unfingerprinted=frozenset(), allow_tag=False
    )
    place.mkdir()
    pods = Pods(
        package.text,
        place / "pods",
        run_id="cdd7cc45-2b3d-4b0e-a45c-0a6a8d7e4e73",
        environment={
            "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
            "HEADSTART_STATE": str(place / "state"),
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
        },
    )
    return pods, pods.run(parameters(resolved))


@pytest.fixture(scope="module")
def pods(recipe: Path) -> Pods:
    """The recipe that ships, run to its end."""
    pods, state = run_on_cluster(recipe, recipe.parent / "cluster")
    assert (state, pods.failed) == ("SUCCEEDED", {})
    return pods


def runs_of(pods: Pods, experiment: str) -> list[Run]:
    """The MLflow runs of an experiment."""
    client = MlflowClient(pods.environment["MLFLOW_TRACKING_URI"])
    (found,) = (each for each in client.search_experiments() if each.name == experiment)
    return list(client.search_runs([found.experiment_id]))


def figures(leaderboard: str) -> dict[str, Any]:
    """A leaderboard without what differs from run to run: each contender's MLflow run, and what it took."""
    board = json.loads(leaderboard)
    own = {"run_id", "seconds", "milliseconds"}
    assert all(own <= entry.keys() for entry in board["entries"])
    return {**board, "entries": [{k: v for k, v in entry.items() if k not in own} for entry in board["entries"]]}


def test_digits_has_the_local_runs_figures_to_the_last_digit(recipe, pods):
    execute(recipe.parent, recipe, recipe.parent / "workspace")
    local = executed(recipe.parent)
    assert local.code == 0, local.err

    there = Path(pods.outputs["evaluate"].artifacts["leaderboard"][0]["uri"]).read_text()
    assert figures(there) == figures(local.leaderboard.to_json())


def test_the_record_of_a_run_on_a_cluster_is_whole_and_has_ended(pods):
    runs = runs_of(pods, "digits")

    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["headstart.pipeline_run"] == pods.run_id
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {None, parent.info.run_id}
    versions = MlflowClient(pods.environment["MLFLOW_TRACKING_URI"]).search_model_versions()
    assert {version.name for version in versions} == {"digits-source", "digits-target"}


def test_a_run_that_fails_does_what_does_not_wait_for_the_failure_and_ends_its_record_as_failed(images, tmp_path):
    (tmp_path / "data" / "0").mkdir(parents=True)
    (tmp_path / "data" / "0" / "text.png").write_text("no picture")
    shutil.copytree(images / "digits" / "1", tmp_path / "data" / "1")
    source = {"data": {"uri": str(images / "mnist"), "size": 8}, "pretraining": {"epochs": 1}}
    target = {"data": {"uri": str(tmp_path / "data"), "size": 8}}
    recipe = write_recipe(tmp_path / "broken.yaml", name="broken", source=source, target=target)

    pods, state = run_on_cluster(recipe, tmp_path / "cluster")

    assert state == "FAILED"
    assert list(pods.failed) == ["prepare target"]
    assert sorted(pods.outputs) == ["close record", "prepare source", "pretrain", "register source"]
    states = {run.info.run_name: run.info.status for run in runs_of(pods, "broken")}
    done = {name: states.pop(name) for name in ("prepare-source", "pretrain", "register-source")}
    assert set(done.values()) == {"FINISHED"}
    # The step that failed, and the run's own.
    assert sorted(states.values()) == ["FAILED", "FAILED"]


def test_a_data_set_that_several_steps_read_is_the_one_that_one_step_makes(recipe, pods):
    sections = {key: value for key, value in yaml.safe_load(recipe.read_text()).items() if key in ("name", "source")}
    sections["source"] = {"data": sections["source"]["data"], "pretraining": {"epochs": 1}}
    path = recipe.parent / "source.yaml"
    path.write_text(yaml.safe_dump(sections))

    read, state = run_on_cluster(path, recipe.parent / "parts", parts=3)

    assert (state, read.failed) == ("SUCCEEDED", {})
    assert read.started[:4] == ["read source", "read source", "read source", "prepare source"]
    one, several = (Path(run.outputs["prepare source"].artifacts["dataset"][0]["uri"]) for run in (pods, read))
    assert {file.name: file.read_bytes() for file in several.iterdir()} == {
        file.name: file.read_bytes() for file in one.iterdir()
    }
    names = [run.info.run_name for run in runs_of(read, "digits")]
    assert {"prepare-source-part-0", "prepare-source-part-1", "prepare-source-part-2"} <= set(names)
