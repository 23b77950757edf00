"""A run whose recipe lists `int8`: what is judged, delivered, registered, predicted with and served is one network."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from starlette.testclient import TestClient

import headstart as hs
from headstart.data.dataset import Dataset
from headstart.metrics.predictions import read_predictions
from headstart.tracking import http_server
from headstart_pipelines.cli import main
from tests.pipelines.conftest import Execution, _sections, execute, executed, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(once, images) -> Execution:
    def make(place: Path) -> None:
        sections = _sections(images)
        sections["target"]["data"]["labels_per_class"] = 5
        recipe = write_recipe(
            place / "digits.yaml",
            **sections,
            strategies=["full", "int8"],
            baselines=["scratch"],
            evaluation={"combinations": [], "seeds": 1, "curve": [], "robustness": 10, "explanations": 2},
        )
        execute(place, recipe, place / "workspace")

    return executed(once("int8", make))


def test_it_stands_in_the_leaderboard_with_its_size_and_latency_and_is_delivered_in_words(small):
    assert (small.code, small.err) == (0, "")
    board = {entry.strategy: entry for entry in small.leaderboard.entries}

    assert set(board) == {"full", "int8", "scratch"}
    assert board["int8"].original == "full"
    assert board["int8"].size < board["full"].size / 3
    assert board["int8"].milliseconds > 0
    assert (small.leaderboard.chosen.strategy, small.leaderboard.delivered) == ("int8", "int8")
    assert small.leaderboard.verdict is not None
    assert "delivered    int8" in small.out
    assert "the model of full in 8-bit whole numbers" in (small.folder / "evaluate" / "report").read_text()


def test_what_was_judged_is_what_is_registered_served_and_predicted_with(small, images, monkeypatch, capsys):
    judged = read_predictions(small.folder / "evaluate" / "predictions" / "int8.parquet")
    test = Dataset.open(small.folder / "prepare-data-2" / "dataset").split("test")
    rows = np.argsort(test.ids)[np.searchsorted(np.sort(test.ids), judged.ids)]
    samples, expected = test.samples[rows[:5]], judged.probabilities[:5]
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(small.workspace))
    mlflow.set_tracking_uri(f"sqlite:///{small.workspace / 'mlflow.db'}")

    registered = hs.load("models:/digits-target/1").bundle
    pyfunc = mlflow.pyfunc.load_model("models:/digits-target/1").predict(samples)
    with TestClient(http_server.application(registered, http_server.predictor(registered, threads=1))) as client:
        answer = client.post("/invocations", json={"inputs": samples.tolist()})
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "models:/digits-target/1", str(images / "digits" / "3"), "--json"])
    told = json.loads(capsys.readouterr().out)

    assert registered.architecture == "int8/convnet"
    columns = [f"p_{name}" for name in registered.classes]
    assert np.allclose(pyfunc[columns], expected, atol=1e-6)
    assert answer.status_code == 200, answer.text
    assert np.allclose([[each[name] for name in columns] for each in answer.json()["predictions"]], expected, atol=1e-6)
    assert np.mean([each["label"] == "3" for each in told]) > 0.5


def test_it_is_registered_with_where_it_comes_from(small):
    version = small.client.get_model_version("digits-target", "1")
    assert version.tags["headstart.strategy"] == "int8"
    assert version.tags["headstart.source_model"].startswith("models:/digits-source/1")
