"""A recipe of recordings goes the way that one of pictures goes: run, compare, promote, lineage, predict and serve."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.modalities.audio.sounds import write
from tests.packages import run_python

CLI = ("-m", "headstart_pipelines.cli")
RATE = 8000

RECIPE = """
name: melodies
modality: audio
source:
  data: {{uri: {root}/source, input: {{rate: 8000, seconds: 1, mels: 32}}}}
  pretraining: {{epochs: 6}}
target:
  data:
    uri: {root}/target
    input: {{rate: 8000, seconds: 1, mels: 32}}
    labels_per_class: 3
    split: {{train: 0.3, val: 0.2, test: 0.5}}
strategies: [zero, linear_probe, full]
evaluation: {{resamples: 200, curve: [2], explanations: 2, robustness: 20}}
"""

SERVED = """
import base64, json, pathlib, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/melodies-target@champion")
encoded = [base64.b64encode(pathlib.Path(each).read_bytes()).decode() for each in sys.argv[2:]]
print(json.dumps(model.predict({"audio": np.array(encoded, dtype=object)})["label"].tolist()))
"""


def melody(label: str, generator: np.random.Generator, *, noise: float, pitch: float) -> np.ndarray:
    """A second of a pitch that rises, falls or warbles, in noise."""
    time = np.arange(RATE) / RATE
    bend = {"falls": -time, "rises": time, "warbles": 0.5 * np.sin(2 * np.pi * 5 * time)}[label]
    hertz = pitch * generator.uniform(0.8, 1.25) * 2**bend
    sound = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
    return sound + noise * generator.standard_normal(RATE)


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("melodies")
    for name, seed, noise, pitch in (("source", 0, 0.01, 600.0), ("target", 1, 0.05, 900.0)):
        generator = np.random.default_rng(seed)
        for label in ("falls", "rises", "warbles"):
            for number in range(30):
                write(
                    root / name / label / f"{number:02}.flac", melody(label, generator, noise=noise, pitch=pitch), RATE
                )
    return root


@pytest.mark.slow
def test_a_recipe_of_recordings_ends_in_a_champion_that_is_served(melodies: Path, tmp_path: Path) -> None:
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=melodies))
    (tmp_path / "policy.yaml").write_text("{min_gain: null}\n")
    table = tmp_path / "found.json"

    checked = run_python(*CLI, "check", str(recipe), *workspace)
    run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(run_python(*CLI, "compare", "melodies", "--json", *workspace))
    run_python(*CLI, "promote", "melodies-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(run_python(*CLI, "lineage", "melodies-target", "--json", *workspace))
    files = str(melodies / "target" / "rises")
    run_python(*CLI, "predict", "models:/melodies-target@champion", files, "-o", str(table), *workspace)
    predicted = {row["path"]: row["label"] for row in json.loads(table.read_text())}
    served = run_python("-c", SERVED, f"sqlite:///{tmp_path}/w/mlflow.db", *predicted)

    assert "target" in checked
    assert "90 samples in 3 classes" in checked
    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    assert max(row["accuracy"] for row in board) > 0.7
    assert lineage["source"]["uri"] == "models:/melodies-source/1"
    assert np.mean([label == "rises" for label in predicted.values()]) > 0.6
    assert json.loads(served) == list(predicted.values())
    (page,) = (tmp_path / "w" / "reports").glob("*.html")
    assert "<audio controls" in page.read_text()
