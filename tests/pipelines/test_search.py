"""`headstart search` on small real data: what it writes is a recipe that runs, and the test split waits for the run."""

import io
import json
import os
import re

import numpy as np
import pytest
import yaml
from filelock import FileLock
from rich.console import Console

import headstart as hs
from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.recipe.recipe import Recipe, load_recipe
from headstart.searching.trial import Tried, settings
from headstart.strategies.section import Strategy
from headstart_pipelines.cli import main
from headstart_pipelines.demo import digits, write_folder
from headstart_pipelines.search import search
from headstart_pipelines.search_lines import SearchLines
from tests.pipelines.conftest import client_of
from tests.sources import WORDS


@pytest.fixture
def sections(tmp_path, source_path) -> dict:
    """A recipe of three strategies, of which two train nothing."""
    images, labels = digits()
    chosen = 1000 + np.flatnonzero(np.isin(labels[1000:], list(WORDS)))[:80]
    write_folder(images[chosen], np.array([WORDS[label] for label in labels[chosen]]), tmp_path / "digits")
    return {
        "name": "digits",
        "source": {"candidates": [str(source_path)]},
        "target": {"data": {"uri": str(tmp_path / "digits"), "split": {"train": 0.5, "val": 0.25, "test": 0.25}}},
        "training": {"epochs": 1, "precision": "fp32", "layout": "contiguous", "compile": "off"},
        "strategies": ["zero", "linear_probe", "full"],
        "evaluation": {"curve": [], "robustness": 0, "explanations": 0, "seeds": 1},
        "search": {"strategies": ["zero", "linear_probe", "full"], "settings": {"epochs": [1, 2]}, "keep": 2},
    }


def test_a_search_writes_a_recipe_of_the_best_and_reads_no_test_sample(sections, tmp_path, monkeypatch):
    read: list[str] = []
    split = Dataset.split

    def noted(self: Dataset, name: str):
        found = split(self, name)
        # Which samples are of the test split is known; what they show is not looked at.
        return _Unread(found) if name == "test" else found

    class _Unread:
        def __init__(self, found) -> None:
            self.ids = found.ids

        def __getattr__(self, name: str):
            read.append(name)
            raise AssertionError(f"the {name} of the test split were read")

    monkeypatch.setattr(Dataset, "split", noted)
    recipe, workspace = Recipe.of(sections), tmp_path / "workspace"
    found = search(recipe, workspace, trials=4)
    assert not read
    assert [each.name for each in found.searched.tried[:3]] == ["zero", "linear_probe", "full"]
    assert found.searched.tried[3].name.startswith(("zero", "linear_probe", "full-"))

    written = load_recipe(found.path)
    assert written == found.recipe
    assert written.pipeline == "finetune"
    assert [strategy.name for strategy in written.strategies] == [tried.name for tried in found.searched.best]
    assert sections["source"]["candidates"][0] in written.source.candidates[0]
    assert "#sha256=" in written.source.candidates[0]
    assert written.evaluation == recipe.evaluation
    text = found.path.read_text()
    for tried in found.searched.best:
        assert f"# trial {tried.number}: held-out log loss {tried.loss:.3f}, accuracy {tried.value:.3f}" in text

    client = client_of(workspace)
    (experiment,) = (each for each in client.search_experiments() if each.name == "digits")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["headstart.role"] == "search")
    trials = [run for run in runs if run.data.tags["headstart.role"] == "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert len(trials) == parent.data.metrics["search/trials"] == 4
    assert not [run for run in runs if "headstart.look" in run.data.tags]

    again = search(recipe, workspace, trials=4)
    assert again.searched.tried == found.searched.tried
    assert again.path == found.path

    with FileLock(found.path.parent / ".lock"), pytest.raises(InputError, match="Another process searches"):
        search(recipe, workspace, trials=4)


def test_a_recipe_without_a_target_or_without_held_out_labels_is_refused(sections, tmp_path):
    with pytest.raises(InputError, match="has no target"):
        search(Recipe.of({"name": "a", "source": {"data": {"uri": "b"}}}), tmp_path / "workspace")
    sections["target"]["data"]["labels_per_class"] = 1
    with pytest.raises(InputError, match=r"No labels of .* are held out"):
        search(Recipe.of(sections), tmp_path / "workspace", trials=1)


def test_a_mistyped_space_and_budget_are_refused_at_once(sections, tmp_path, capsys):
    sections["search"]["settings"] = {"epoch": 1}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections))
    for options, message in (
        ([], "'epoch' is no setting of these strategies; did you mean epochs?"),
        (["--minutes", "0"], "0 is not a number of minutes above 0"),
        (["--trials", "0"], "0 is not a whole number above 0"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["search", str(path), *options])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_the_command_shows_the_best_and_python_goes_on_with_the_same_trials(sections, tmp_path, capsys):
    path, workspace = tmp_path / "recipe.yaml", tmp_path / "workspace"
    path.write_text(yaml.safe_dump(sections))
    with pytest.raises(SystemExit) as ended:
        main(["search", str(path), "--trials", "2", "--no-run", "--workspace", str(workspace)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert "search for 2 trials" in printed.out
    assert re.search(r"✓ +0 zero +[\d.]+ s  held-out log loss [\d.]+, accuracy [\d.]+ \[", printed.out)
    assert re.search(r"^ +1 +linear_probe ← ", printed.out, re.MULTILINE)
    assert "2 trials in" in printed.out
    assert "the search ended as 2 trials were made" in printed.out
    assert re.search(r"^recipe +workspace/search/digits-\w+/recipe.yaml$", printed.out, re.MULTILINE)

    # The command's process ends with it.
    del os.environ["MLFLOW_TRACKING_URI"]
    found = hs.search(sections, trials=2, run_best=False, workspace=workspace, quiet=True)
    assert found.result is None
    assert found.recipe.name == "recipe.yaml"
    assert set(found.trials["name"]) == {"zero", "linear_probe"}
    assert found.trials["loss"].is_monotonic_increasing
    assert found.trials["chosen"].all()
    assert "linear_probe" in found._repr_html_()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not capsys.readouterr().out


def test_the_live_line_tells_the_trial_the_best_and_what_is_left():
    shown = io.StringIO()
    lines = SearchLines(Console(file=shown, force_terminal=True, width=300), "accuracy", trials=None)
    zero, full = (Strategy.model_validate(name) for name in ("zero", "full"))
    lines.began(1, zero, "a", 300.0)
    tried = Tried(0, "a", settings(zero), "complete", 30.0, loss=0.5, value=0.8, low=0.7, high=0.9)
    lines.ended(tried, tried)
    lines.began(2, full, "a", 270.5)
    lines.progressed("full", 3, 20)
    lines.close()

    written = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.getvalue())
    assert "trial 1  zero   5:00 left" in written or "trial 1  zero   4:59 left" in written
    assert "✓   0 zero" in written
    line = "trial 2 of ~11  full  epoch 3/20   best: zero, held-out log loss 0.500, accuracy 0.800 [0.700, 0.900]   4:"
    assert line in written


@pytest.mark.slow
def test_a_search_of_the_digits_ends_with_the_verdict_of_a_run(images, tmp_path, capsys):
    shares = {"train": 0.3, "val": 0.2, "test": 0.5}
    path = tmp_path / "digits.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "digits",
                "source": {"data": {"uri": str(images / "mnist"), "size": 16}, "pretraining": {"epochs": 4}},
                "target": {"data": {"uri": str(images / "digits"), "size": 16, "labels_per_class": 5, "split": shares}},
                "training": {"epochs": 2},
                "evaluation": {"curve": [], "robustness": 0, "explanations": 0, "seeds": 1},
            }
        )
    )
    with pytest.raises(SystemExit) as ended:
        main(["search", str(path), "--trials", "8", "--json", "--workspace", str(tmp_path / "workspace")])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err

    found = json.loads(printed.out)
    assert len(found["trials"]) == 8
    assert found["run"]["verdict"] in ("helped", "no evidence", "hurt")
    judged = {row["strategy"] for row in found["run"]["leaderboard"]}
    assert {*found["best"], "scratch", "classical"} <= judged
    client = client_of(tmp_path / "workspace")
    (experiment,) = (each for each in client.search_experiments() if each.name == "digits")
    runs = client.search_runs([experiment.experiment_id])
    assert sum("headstart.look" in run.data.tags for run in runs) == 1
