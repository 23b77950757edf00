"""`headstart rank`, on digits and two bundles of which one has learned them."""

import argparse
import json
import os
import re
from pathlib import Path

import pytest
import torch

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.sources import Background, pin_source
from headstart.recipe.recipe import Recipe
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining
from headstart_pipelines.check import check
from headstart_pipelines.commands import rank as module
from headstart_pipelines.demo import digits, write_folder


@pytest.fixture(scope="module")
def place(once):
    """A folder with pictures to learn from and others to rank for, and two bundles."""

    def make(root: Path) -> None:
        images, labels = digits()
        for name, part in (("old", slice(0, 500)), ("new", slice(500, 700))):
            write_folder(images[part], labels[part], root / name)
        packed = prepare(
            Data.of({"uri": str(root / "old"), "size": 8, "split": {"train": 0.8, "val": 0.1, "test": 0.1}}),
            root / "packed",
        )
        section = Pretraining(epochs=2, augmentation="none", batch_size=None)
        bundle = pretrain(section, packed, RunContext()).bundle
        bundle.save(root / "trained")
        torch.manual_seed(0)
        network = build_network("convnet", classes=10, channels=1)
        ModelBundle(network, "convnet", "image", bundle.preprocessing, bundle.classes).save(root / "random")

    return once("rank", make)


@pytest.fixture
def rank(place, capsys, monkeypatch):
    """Runs the command with the two bundles and returns what it prints."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str, candidates: tuple[str, ...] = ("random", "trained"), workspace: str = "w") -> str:
        # The command sets what the steps of a run are given; each starts without.
        monkeypatch.delenv("HEADSTART_STATE", raising=False)
        parser = argparse.ArgumentParser()
        for option in module.COMMANDS[0].options:
            option(parser)
        given = ["--data", "new", "--size", "8", "--workspace", workspace, *arguments, "--candidates", *candidates]
        options = parser.parse_args(given)
        module.rank(options)
        return capsys.readouterr().out

    return run


def test_the_better_source_is_first_with_every_score_and_the_reason_below(rank):
    out = rank()
    sentences = " ".join(out.split())
    lines = [line for line in out.splitlines() if line.startswith("file://") and "[" in line]
    assert [line.split()[0].rpartition("/")[2] for line in lines] == ["trained", "random"]
    assert "←" in lines[0]
    assert "←" not in lines[1]
    for title in ("source", "probe", "kNN", "LogME", "H-score", "LEEP", "NLEEP", "own", "weights", "seen"):
        assert title in out
    # 140 training samples do not tell a source of two epochs from random weights.
    assert re.search(
        r"tie by the probe \(0\.\d+ ± 0\.\d+ against 0\.\d+ ± 0\.\d+, a difference of .* ± 0\.\d+\), "
        r"and the first has the larger LogME \(-?\d\.\d+ against -?\d\.\d+\)",
        sentences,
    )
    assert "neither was fine-tuned" in sentences


def test_samples_that_a_source_of_a_candidate_may_have_seen_are_no_0(rank, monkeypatch):
    known = Background(learned_from=frozenset(), complete=False)
    monkeypatch.setattr("headstart.api.ranking.background", lambda uri: known)
    found = json.loads(rank("--json", candidates=("random",)))
    assert found["ranking"][0]["overlap_complete"] is False
    assert "≥0 + ≥0" in rank(candidates=("random",))


def test_with_json_nothing_else_is_printed(rank, place):
    found = json.loads(rank("--json", "--labels-per-class", "3"))
    assert found["data"]["train"] + found["data"]["val"] == 30
    assert found["source"].startswith(f"{(place / 'trained').as_uri()}#sha256=")
    assert [row["chosen"] for row in found["ranking"]] == [True, False]
    assert found["ranking"][0]["confirmed"] is None


def test_the_splits_shares_are_those_of_a_recipe(rank):
    found = json.loads(rank("--json", "--split", "train=0.2,val=0.1,test=0.7"))
    assert found["data"]["test"] > 3 * found["data"]["train"] > 3 * found["data"]["val"]
    with pytest.raises(InputError, match="must add up to 1"):
        rank("--split", "train=0.2,val=0.1,test=0.6")
    with pytest.raises(SystemExit):
        rank("--split", "0.2/0.1/0.7")


def test_where_the_two_best_overlap_a_confirmation_that_is_short_is_suggested(rank, monkeypatch):
    overlapping = ("--labels-per-class", "3")
    assert "--confirm fine-tunes both shortly, in about" in " ".join(rank(*overlapping).split())
    assert json.loads(rank("--json", *overlapping))["confirm_seconds"] > 0
    monkeypatch.setattr(module, "_SHORTLY", 0)
    assert "--confirm" not in rank(*overlapping)


def test_confirm_fine_tunes_the_two_best(rank):
    found = json.loads(rank("--json", "--confirm", "--labels-per-class", "3"))
    assert all(row["confirmed"] is not None and row["costs"]["confirm"] > 0 for row in found["ranking"])


def test_confirm_says_that_nothing_is_held_out_of_one_label_a_class(rank):
    found = json.loads(rank("--json", "--confirm", "--labels-per-class", "1"))
    assert found["warnings"][-1].startswith("--confirm compares the two best on held-out samples, and there is none")
    assert [row["confirmed"] for row in found["ranking"]] == [None, None]


def test_confirm_says_that_one_candidate_cannot_be_compared(rank):
    found = json.loads(rank("--json", "--confirm", candidates=("trained", "trained")))
    (warning,) = found["warnings"]
    assert warning.startswith("--confirm fine-tunes the two best candidates to compare them; file://")
    assert warning.endswith("is the only one, so that nothing was fine-tuned.")
    assert "so that nothing was fine-tuned" in " ".join(rank("--confirm", candidates=("trained",)).split())
    assert "fine-tuned" not in rank(candidates=("trained",))


def test_where_no_class_has_two_labels_the_ranking_shows_no_share(rank):
    row = next(line for line in rank("--labels-per-class", "1").splitlines() if line.startswith("file://"))
    assert row.replace("←", "").split()[1:3] == ["–", "–"]


def test_data_that_has_not_changed_is_not_packed_again(rank, place, monkeypatch):
    first = json.loads(rank("--json"))
    with monkeypatch.context() as patch:
        patch.setattr("headstart.data.prepare.prepare", None)
        assert json.loads(rank("--json"))["data"] == first["data"]
    picture = next((place / "new" / "3").glob("*.png"))
    content = picture.read_bytes()
    try:
        picture.unlink()
        assert json.loads(rank("--json"))["data"]["data_digest"] != first["data"]["data_digest"]
    finally:
        picture.write_bytes(content)


def test_the_features_lie_where_a_run_in_the_workspace_finds_them(rank, place):
    rank("--json", workspace="kept")
    assert list((place / "kept" / "state" / "features").glob("*/*"))


def test_a_search_in_a_workspace_without_a_record_says_so(rank):
    with pytest.raises(InputError, match="There is no record in the workspace empty"):
        rank(candidates=("models:/*-source",), workspace="empty")
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_what_cannot_be_read_is_named(rank):
    with pytest.raises(InputError, match="nowhere"):
        rank(candidates=("nowhere",))


def test_check_loads_every_model_that_a_search_among_the_candidates_finds(place, tmp_path, monkeypatch):
    found = [pin_source(str(place / name)) for name in ("trained", "random")]
    monkeypatch.setattr("headstart.tracking.registry.search", lambda pattern: found)
    monkeypatch.setattr("headstart_pipelines.check.is_there", lambda uri: True)
    data = {"uri": str(place / "new")}
    recipe = Recipe.of({"name": "a", "source": {"candidates": ["models:/*-source"]}, "target": {"data": data}})
    lines = list(check(recipe, tmp_path))
    assert [line.split()[-1] for line in lines if line.startswith("candidate")] == found
