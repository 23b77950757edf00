"""A package from outside adds one member to each registry, and all of headstart knows them."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.packages import installed, run_python

OUTSIDE = Path(__file__).parent / "outside"
PROJECT = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]

RECIPE = """
name: stripes
source:
  data: {uri: "stripes://0-120", size: 16}
  pretraining: {objective: one_epoch, augmentation: dim}
target:
  data: {uri: "stripes://200-360", size: 16, split: {train: 0.2, val: 0.2, test: 0.6}}
training: {epochs: 2, augmentation: dim}
strategies:
  - zero
  - first_stage
  - {name: two, strategy: first_stage, depth: 2, regularizer: l1, strength: 0.00001}
baselines: [scratch, majority]
evaluation: {metric: worst_recall, explanations: 0, resamples: 200, curve: []}
"""

USES = """
import json, numpy as np, torch
from headstart.data.kind import KINDS, Source, Wanted
from headstart.features.score import SCORES, Probed
from headstart.metrics.counts import count
from headstart.metrics.metric import METRICS
from headstart.modalities import MODALITIES, modality
from headstart.modalities.image.augmentation import AUGMENTATIONS
from headstart.modalities.image.corruption import CORRUPTIONS
from headstart.strategies.baseline import BASELINES
from headstart.strategies.regularizer import REGULARIZERS
from headstart.strategies.section import STRATEGIES
from headstart.tracking.gate import GATES
from headstart.tracking.policy import Policy
from headstart.training.objective import OBJECTIVES

registries = (
    STRATEGIES, REGULARIZERS, BASELINES, OBJECTIVES, METRICS, SCORES, AUGMENTATIONS, CORRUPTIONS, KINDS, GATES,
    MODALITIES,
)
labels, guesses = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
batch = torch.full((2, 4, 4, 1), 200, dtype=torch.uint8)
print(json.dumps({
    "added": {each.name: sorted(set(each) - set(each.built_in)) for each in registries},
    "metric": float(METRICS["worst_recall"].of(count(labels, guesses, 2))),
    "score": SCORES["spread"].of(Probed(np.eye(4), labels, None, 0)),
    "augmented": int(AUGMENTATIONS["dim"].apply(batch, torch.ones(2, 10), 1.0).max()),
    "corrupted": int(CORRUPTIONS["negative"].apply(np.full((1, 2, 2, 1), 255, np.uint8), 2).max()),
    "shown": [each.title for each in modality("image").corruptions][-1],
    "policy": Policy.of({"max_classes": 3}).max_classes,
    "size": modality("tiny").default_size("convnet"),
}))
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    return installed(OUTSIDE, tmp_path_factory.mktemp("site"))


@pytest.fixture
def run(site, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))
    return run_python


def test_each_registry_takes_a_member_from_outside(run):
    found = json.loads(run("-c", USES))

    assert {f"headstart.{name}": names for name, names in found["added"].items()} == {
        group: list(members) for group, members in PROJECT["entry-points"].items()
    }
    assert found["metric"] == 0.5
    assert found["score"] == pytest.approx(3**0.5 / 4)
    assert found["augmented"] == 100
    assert found["corrupted"] == 102
    assert (found["shown"], found["policy"], found["size"]) == ("negative", 3, 8)


def test_a_recipe_that_names_them_is_checked(run, tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    said = run(
        "-m", "headstart_pipelines.cli", "check", str(tmp_path / "recipe.yaml"), "--workspace", str(tmp_path / "w")
    )

    assert "3 strategies" in said
    assert "stripes://0-120: 120 samples in 2 classes" in said


@pytest.mark.slow
def test_a_recipe_that_names_them_runs_and_a_policy_that_names_the_gate_promotes(run, tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "policy.yaml").write_text("{min_gain: null, max_classes: 2}\n")
    cli, workspace = ("-m", "headstart_pipelines.cli"), ("--workspace", str(tmp_path / "w"))

    run(*cli, "run", str(tmp_path / "recipe.yaml"), *workspace)
    board = json.loads(run(*cli, "compare", "stripes", "--json", *workspace))
    said = run(*cli, "promote", "stripes-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)

    assert {row["strategy"] for row in board} == {"zero", "first_stage", "two", "scratch", "majority"}
    assert next(row["worst_recall"] for row in board if row["strategy"] == "majority") == 0
    assert "max_classes" in said
