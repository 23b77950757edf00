"""A recipe of recordings with published networks for sound as sources goes the way that one of pictures goes."""

import json

import numpy as np
import pytest

from tests.commands import headstart
from tests.modalities.waveform.conftest import lay_out
from tests.modalities.waveform.encoders import write
from tests.packages import run_python

CLI = ("-m", "headstart_pipelines.cli")
RECIPE = """
name: pitches
modality: waveform
source:
  candidates: [{root}/ast, {root}/hubert]
target:
  data: {{uri: {root}/sounds, labels_per_class: 8, input: {{seconds: 0.6}}, split: {{train: 0.3, val: 0.2, test: 0.5}}}}
strategies: [linear_probe, full, lora, {{strategy: distill, epochs: 12}}]
training: {{epochs: 6}}
evaluation: {{resamples: 200, curve: [2], explanations: 2, robustness: 20}}
"""


@pytest.mark.slow
def test_a_recipe_of_published_networks_for_sound_ends_in_a_model_that_predicts(tmp_path):
    write(tmp_path / "ast", "audio-spectrogram-transformer", head=False)
    write(tmp_path / "hubert", "hubert", head=False)
    lay_out(tmp_path / "sounds", 30)
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=tmp_path))
    (tmp_path / "policy.yaml").write_text("{min_gain: null}\n")

    checked = headstart("check", str(recipe), *workspace)
    run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(headstart("compare", "pitches", "--json", *workspace))
    headstart("promote", "pitches-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    table = tmp_path / "found.json"
    model = "models:/pitches-target@champion"
    headstart("predict", model, str(tmp_path / "sounds" / "low"), "-o", str(table), *workspace)

    assert "60 samples in 2 classes" in checked
    assert {row["strategy"] for row in board} >= {"linear_probe", "full", "lora", "distill", "scratch", "classical"}
    assert max(row["accuracy"] for row in board) > 0.8
    assert np.mean([row["label"] == "low" for row in json.loads(table.read_text())]) > 0.7
