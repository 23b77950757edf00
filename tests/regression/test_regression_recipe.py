"""A recipe whose target is a number goes the way that one of classes goes, and the angles' data are laid out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.recipe.recipe import load_recipe
from headstart_pipelines.angles import write_rotated
from tests.commands import headstart
from tests.packages import run_python
from tests.regression.discs import SIZE, write_discs

CLI = ("-m", "headstart_pipelines.cli")
RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"

RECIPE = """
name: discs
source:
  data: {{uri: {root}/source/labels.csv, size: {size}, task: regression}}
  pretraining: {{epochs: 8}}
target:
  data:
    uri: {root}/target/labels.csv
    size: {size}
    task: regression
    label_budget: 40
    split: {{train: 0.4, val: 0.1, test: 0.5}}
training: {{epochs: 6}}
strategies: [zero, linear_probe, full]
evaluation: {{resamples: 200, seeds: 1, min_gain: 0.01}}
"""

SERVED = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/discs-target@champion")
files = [open(path, "rb").read() for path in sys.argv[2:]]
print(json.dumps(model.predict({"image": np.array(files, dtype=object)}).to_dict(orient="list")))
"""


def test_digits_are_written_with_the_angles_that_they_are_turned_by(tmp_path):
    bar = np.zeros((8, 8), np.uint8)
    bar[3:5] = 255

    write_rotated(np.stack([bar] * 20), tmp_path / "bars", seed=0)

    with (tmp_path / "bars" / "labels.csv").open() as file:
        angles = {row["path"]: float(row["label"]) for row in csv.DictReader(file)}
    assert len(angles) == len(list((tmp_path / "bars").glob("*.png"))) == 20
    assert min(angles.values()) < -20 < 20 < max(angles.values()) <= 45
    for name, angle in angles.items():
        y, x = np.nonzero(np.asarray(Image.open(tmp_path / "bars" / name)) > 128)
        slope = -np.polyfit(x, y, 1)[0]
        assert np.degrees(np.arctan(slope)) == pytest.approx(angle, abs=15)


def test_the_recipe_of_angles_is_one():
    recipe = load_recipe(RECIPES / "angles.yaml")

    assert recipe.target.data.task == recipe.source.data.task == "regression"


@pytest.mark.slow
def test_a_recipe_of_numbers_ends_in_a_champion_that_is_served_and_measured(tmp_path: Path) -> None:
    write_discs(tmp_path / "source", 200, seed=0)
    write_discs(tmp_path / "target", 200, seed=1, noise=20.0, inverted=True)
    new = write_discs(tmp_path / "new", 60, seed=2, noise=20.0, inverted=True)
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=tmp_path, size=SIZE))
    (tmp_path / "policy.yaml").write_text("{min_gain: null, min_metrics: {mae: 2.0}}\n")
    model, files = "models:/discs-target@champion", sorted(map(str, (tmp_path / "new").glob("*.png")))

    checked = headstart("check", str(recipe), *workspace)
    run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(headstart("compare", "discs", "--json", *workspace))
    gates = headstart("promote", "discs-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(headstart("lineage", "discs-target", "--json", *workspace))
    headstart("predict", model, str(tmp_path / "new"), "-o", str(tmp_path / "found.json"), *workspace)
    measured = json.loads(headstart("evaluate", model, str(new), "--at-most", "3", "--json", *workspace))
    served = json.loads(run_python("-c", SERVED, f"sqlite:///{tmp_path}/w/mlflow.db", *files))

    assert "200 samples with numbers" in checked
    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    errors = [row["mae"] for row in board]
    assert errors == sorted(errors)
    assert errors[0] < 1
    assert "min_metrics.mae" in gates
    assert lineage["source"]["uri"] == "models:/discs-source/1"
    predicted = [row for row in json.loads((tmp_path / "found.json").read_text()) if row["path"].endswith(".png")]
    np.testing.assert_allclose([row["value"] for row in predicted], served["value"], rtol=1e-5)
    assert all(row["low"] < row["value"] < row["high"] for row in predicted)
    assert measured["metric"] == "mae"
    with new.open() as file:
        labels = np.array([float(row["label"]) for row in csv.DictReader(file)])
    assert measured["figures"]["mae"][0] == pytest.approx(np.abs(np.array(served["value"]) - labels).mean(), rel=1e-4)
    (page,) = (tmp_path / "w" / "reports").glob("*.html")
    assert "How far" in page.read_text()
