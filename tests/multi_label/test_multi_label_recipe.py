"""A recipe whose samples have several labels goes the way that one of classes goes, and the pictures are laid out."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.recipe.recipe import load_recipe
from headstart_pipelines.demo import digits
from headstart_pipelines.which_digits import write_pictures
from tests.commands import headstart
from tests.packages import run_python

CLI = ("-m", "headstart_pipelines.cli")
RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"

RECIPE = """
name: pictures
source:
  data: {{uri: {root}/source/labels.csv, size: 32, task: multi_label}}
  pretraining: {{epochs: 24}}
target:
  data: {{uri: {root}/target/labels.csv, size: 32, task: multi_label, label_budget: 40}}
training: {{epochs: 6}}
strategies: [zero, linear_probe, full]
evaluation: {{resamples: 200, seeds: 1}}
"""

SERVED = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/pictures-target@champion")
files = [open(path, "rb").read() for path in sys.argv[2:]]
print(json.dumps(model.predict({"image": np.array(files, dtype=object)}).to_dict(orient="list")))
"""


def rows_of(folder):
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_pictures_have_the_digits_that_their_labels_name(tmp_path):
    images = np.zeros((200, 8, 8), np.uint8)
    images[:, 2:6, 2:6] = 255

    write_pictures(images, np.arange(200) % 10, tmp_path / "pictures", {"train": 30, "test": 20}, seed=0)

    rows = rows_of(tmp_path / "pictures")
    assert [sum(row["split"] == split for row in rows) for split in ("train", "test")] == [30, 20]
    seen = set()
    for row in rows:
        picture = np.asarray(Image.open(tmp_path / "pictures" / row["path"])) > 128
        corners = [picture[y : y + 16, x : x + 16].any() for y in (0, 16) for x in (0, 16)]
        named = [] if row["label"] == "none" else row["label"].split(";")
        # Two of one digit are one label.
        assert len(named) <= sum(corners) <= 3
        assert bool(named) == any(corners)
        seen.add(len(named))
    assert seen == {0, 1, 2, 3}


def test_the_recipe_of_digits_is_one():
    recipe = load_recipe(RECIPES / "which_digits.yaml")

    assert recipe.target.data.task == recipe.source.data.task == "multi_label"


@pytest.mark.slow
def test_a_recipe_of_several_labels_ends_in_a_champion_that_is_served_and_measured(tmp_path: Path) -> None:
    images, labels = digits()
    few = labels < 4
    for seed, (name, factor) in enumerate({"source": 1, "target": 2, "new": 2}.items()):
        counts = {"train": 500 if name == "source" else 120, "test": 80}
        write_pictures(images[few] // factor, labels[few], tmp_path / name, counts, seed)
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=tmp_path))
    (tmp_path / "policy.yaml").write_text("{min_gain: null, min_metrics: {micro_f1: 0.3}}\n")
    model, new = "models:/pictures-target@champion", tmp_path / "new" / "labels.csv"
    files = sorted(map(str, (tmp_path / "new").glob("test-*.png")))

    checked = headstart("check", str(recipe), *workspace)
    run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(headstart("compare", "pictures", "--json", *workspace))
    gates = headstart("promote", "pictures-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(headstart("lineage", "pictures-target", "--json", *workspace))
    shown = headstart("predict", model, *files[:3], *workspace)
    headstart("predict", model, *files, "-o", str(tmp_path / "found.json"), *workspace)
    measured = json.loads(headstart("evaluate", model, str(new), "--json", *workspace))
    ranked = json.loads(
        headstart(
            "rank",
            "--candidates",
            "models:/pictures-source/1",
            "--data",
            str(new),
            "--task",
            "multi_label",
            "--json",
            *workspace,
        )
    )
    served = json.loads(run_python("-c", SERVED, f"sqlite:///{tmp_path}/w/mlflow.db", *files))

    assert "200 samples with several labels each" in checked
    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    reached = [row["mean_average_precision"] for row in board]
    assert reached == sorted(reached, reverse=True)
    assert reached[0] > 0.5
    assert "min_metrics.micro_f1" in gates
    assert lineage["source"]["uri"] == "models:/pictures-source/1"
    assert len(shown.splitlines()) == 3
    predicted = {Path(row["path"]).name: row for row in json.loads((tmp_path / "found.json").read_text())}
    found = [predicted[Path(path).name] for path in files]
    assert [row["labels"] for row in found] == served["labels"]
    np.testing.assert_allclose([row["p_2"] for row in found], served["p_2"], atol=1e-5)
    truth = {row["path"]: row["label"] for row in rows_of(tmp_path / "new")}
    wanted = [truth[Path(path).name] for path in files]
    same = np.mean([predicted[Path(path).name]["labels"] == label for path, label in zip(files, wanted, strict=True)])
    # All labels of a picture right, against the set that most pictures have for all of them.
    assert same > max(Counter(wanted).values()) / len(wanted) + 0.1
    assert measured["metric"] == "mean_average_precision"
    assert ranked
    (page,) = (tmp_path / "w" / "reports").glob("*.html")
    assert "tells each label" in page.read_text()
