"""A recipe of texts goes the way that one of pictures goes: run, compare, promote, lineage, predict and serve."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.modalities.text.corpus import write
from tests.packages import run_python

CLI = ("-m", "headstart_pipelines.cli")

RECIPE = """
name: topics
modality: text
source:
  data: {{uri: {root}/source, input: {{length: 64}}}}
  pretraining: {{architecture: transformer_tiny, epochs: 6}}
target:
  data:
    uri: {root}/target
    input: {{length: 64}}
    labels_per_class: 5
    split: {{train: 0.3, val: 0.2, test: 0.5}}
training: {{epochs: 4}}
strategies: [zero, linear_probe, full]
evaluation: {{resamples: 200, curve: [2], explanations: 2, robustness: 20}}
"""

SERVED = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/topics-target@champion")
print(json.dumps(model.predict({"text": np.array(sys.argv[2:], dtype=object)})["label"].tolist()))
"""


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("topics")
    write(root / "source", 60, seed=1)
    write(root / "target", 40, seed=2, share=0.2)
    return root


@pytest.mark.slow
def test_a_recipe_of_texts_ends_in_a_champion_that_is_served(topics: Path, tmp_path: Path) -> None:
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=topics))
    (tmp_path / "policy.yaml").write_text("{min_gain: null}\n")
    files = sorted((topics / "target" / "sport").glob("*.txt"))
    texts = [path.read_text() for path in files]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "mails.csv", index=False)

    checked = run_python(*CLI, "check", str(recipe), *workspace)
    run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(run_python(*CLI, "compare", "topics", "--json", *workspace))
    run_python(*CLI, "promote", "topics-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(run_python(*CLI, "lineage", "topics-target", "--json", *workspace))
    predicted = {}
    for given in (files[0].parent, tmp_path / "mails.csv"):
        table = tmp_path / "found.json"
        run_python(*CLI, "predict", "models:/topics-target@champion", str(given), "-o", str(table), *workspace)
        predicted[given.name] = [row["label"] for row in json.loads(table.read_text())]
    served = run_python("-c", SERVED, f"sqlite:///{tmp_path}/w/mlflow.db", *texts)

    assert "120 samples in 3 classes" in checked
    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    assert max(row["accuracy"] for row in board) > 0.7
    assert lineage["source"]["uri"] == "models:/topics-source/1"
    assert np.mean([label == "sport" for label in predicted["sport"]]) > 0.6
    assert predicted["sport"] == predicted["mails.csv"] == json.loads(served)
    (page,) = (tmp_path / "w" / "reports").glob("*.html")
    assert "dropped words" in page.read_text()
