"""A whole recipe as Kubeflow's backend runs it, beside the local run of the same recipe."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from headstart.config import load_recipe
from headstart_pipelines import demo
from headstart_pipelines.catalog import parameters
from headstart_pipelines.cluster.submission import build_package
from headstart_pipelines.profile import load_profile
from headstart_pipelines.resolve import resolve
from tests.pipelines.cluster.backend import Pods
from tests.pipelines.cluster.conftest import IMAGE, PROFILE, ROOT
from tests.pipelines.conftest import execute, executed

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


@pytest.fixture(scope="module")
def pods(recipe: Path) -> Pods:
    """The recipe, compiled for a cluster and run as the backend runs it."""
    resolved = resolve(load_recipe(recipe, []))
    package = build_package(
        resolved, image=IMAGE, profile=load_profile(PROFILE), unfingerprinted=frozenset(), allow_tag=False
    )
    place = recipe.parent / "cluster"
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
    place.mkdir()
    state = pods.run(parameters(resolved))
    assert (state, pods.failed) == ("SUCCEEDED", {})
    return pods


def figures(leaderboard: str) -> dict[str, Any]:
    """A leaderboard without what differs from run to run: each contender's MLflow run, and its seconds."""
    board = json.loads(leaderboard)
    own = {"run_id", "seconds"}
    assert all(own <= entry.keys() for entry in board["entries"])
    return {**board, "entries": [{k: v for k, v in entry.items() if k not in own} for entry in board["entries"]]}


def test_digits_has_the_local_runs_figures_to_the_last_digit(recipe, pods):
    execute(recipe.parent, recipe, recipe.parent / "workspace")
    local = executed(recipe.parent)
    assert local.code == 0, local.err

    there = Path(pods.outputs["evaluate"].artifacts["leaderboard"][0]["uri"]).read_text()
    assert figures(there) == figures(local.leaderboard.to_json())


def test_the_record_of_a_run_on_a_cluster_is_whole_and_has_ended(pods):
    client = MlflowClient(pods.environment["MLFLOW_TRACKING_URI"])
    (experiment,) = (each for each in client.search_experiments() if each.name == "digits")
    runs = client.search_runs([experiment.experiment_id])

    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["headstart.pipeline_run"] == pods.run_id
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {None, parent.info.run_id}
    assert {version.name for version in client.search_model_versions()} == {"digits-source", "digits-target"}
