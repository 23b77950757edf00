"""What a later run takes over from an earlier one, and what it must not."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.recipe.recipe import Recipe
from headstart.training.section import Pretraining
from headstart_pipelines.catalog import parameters
from headstart_pipelines.resolve import resolve

# What depends on what else was compared: the best baseline, and bounds that hold at once for all gains of a run.
AMONG_OTHERS = ("gain/accuracy_low", "gain/accuracy_high", "gain_over_best/")
ALWAYS_RUN = ["register source", "evaluate", "register target", "close record"]


def test_the_same_recipe_and_seed_give_identical_metrics_in_another_workspace(first, fresh):
    for name, run in fresh.children.items():
        measured = ("time/", "speed/", "system/", *AMONG_OTHERS)
        here = {key: value for key, value in run.data.metrics.items() if not key.startswith(measured)}
        there = first.children[name].data.metrics
        assert here == {key: there[key] for key in here}, name
    assert {"full", "scratch", "pretrain"} <= fresh.children.keys()


def test_the_gain_of_one_among_more_contenders_is_the_same_and_surer_by_nothing(first, fresh):
    among_more, alone = (execution.children["full"].data.metrics for execution in (first, fresh))
    assert among_more["gain/accuracy"] == alone["gain/accuracy"]
    low, high, _ = AMONG_OTHERS
    assert among_more[low] <= alone[low] < alone[high] <= among_more[high]


def test_the_same_recipe_and_seed_give_identical_models_in_another_workspace(first, fresh):
    for name in ("pretrain", "full"):
        tags = [execution.children[name].data.tags for execution in (first, fresh)]
        assert tags[0]["headstart.model_digest"] == tags[1]["headstart.model_digest"], name


def test_a_second_run_reuses_every_step_that_does_not_write_into_mlflow(again):
    assert again.code == 0, again.err
    assert sorted(again.reused) == [
        "finetune full", "fit baselines", "prepare source", "prepare target", "pretrain", "select source"
    ]  # fmt: skip
    assert again.worked == ALWAYS_RUN


def test_a_second_run_says_what_it_reused(again):
    assert f"reused       6 unchanged steps: {', '.join(again.reused)}\n" in again.out


def test_the_record_of_a_second_run_says_what_it_reused(fresh, again):
    assert again.parent.data.tags["headstart.reused_steps"] == ", ".join(again.reused)
    for name in ("pretrain", "full"):
        assert fresh.children[name].info.run_id in again.parent.data.tags["mlflow.note.content"]
    for name in ("full", "scratch"):
        assert again.children[name].data.tags["headstart.reused_from"] == fresh.children[name].info.run_id


def test_a_second_run_has_the_leaderboard_of_the_first(fresh, again):
    figures = [
        {
            name: {key: value for key, value in run.data.metrics.items() if key.startswith(("test/", "gain/"))}
            for name, run in execution.children.items()
            if name in ("full", "scratch")
        }
        for execution in (fresh, again)
    ]

    assert figures[0] == figures[1]
    assert figures[0]["full"]


def test_a_second_run_registers_nothing_new(again):
    assert again.before == again.after == {"digits-source": ["1"], "digits-target": ["1"]}
    assert "models:/digits-source/1  models:/digits-target/1\n" in again.out


def test_another_strategy_makes_no_other_work_than_its_own(again, changed):
    assert changed.code == 0, changed.err
    assert sorted(changed.reused) == sorted(again.reused)
    assert sorted(changed.worked) == sorted([*ALWAYS_RUN, "finetune zero"])


def test_reused_strategies_are_judged_beside_the_new_one(changed):
    assert sorted(entry.strategy for entry in changed.leaderboard.entries) == ["full", "scratch", "zero"]


# Changed data: one folder, two classes, the pipeline `pretrain`.


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Recipe:
    for label in "01":
        shutil.copytree(images / "digits" / label, tmp_path / "data" / label)
    return Recipe.of({"name": "two", "source": {"data": {"uri": str(tmp_path / "data"), "size": 8}}})


def test_unchanged_data_gives_the_same_parameters(recipe):
    assert parameters(resolve(recipe)) == parameters(resolve(recipe))


def test_another_model_at_the_same_place_changes_the_parameter_of_what_starts_from_it(recipe, tmp_path):
    source = recipe.source.model_copy(update={"pretraining": Pretraining(start=str(tmp_path / "start"))})
    started, found = recipe.model_copy(update={"source": source}), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build_network("convnet", classes=2, channels=1)
        shutil.rmtree(tmp_path / "start", ignore_errors=True)
        preprocessing = Preprocessing(size=8, channels=1, mean=(0.5,), std=(0.5,))
        ModelBundle(network, "convnet", "image", preprocessing, ("0", "1")).save(tmp_path / "start")
        found.append(parameters(resolve(started))["source_pretraining"]["start"])

    assert all(each.startswith((tmp_path / "start").as_uri() + "#sha256=") for each in found)
    assert found[0] != found[1]


def test_a_touched_file_changes_the_parameter_of_its_preparation(recipe, tmp_path):
    before = parameters(resolve(recipe))
    file = next((tmp_path / "data" / "0").iterdir())
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))

    assert parameters(resolve(recipe))["source_data"] != before["source_data"]


def test_a_touched_file_changes_no_other_parameter(recipe, tmp_path):
    before = parameters(resolve(recipe))
    file = next((tmp_path / "data" / "0").iterdir())
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    after = parameters(resolve(recipe))

    assert {key for key in after if after[key] != before[key]} == {"source_data"}


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "moved to another class"])
def test_other_files_change_the_parameter_of_their_preparation(recipe, tmp_path, change):
    before = parameters(resolve(recipe))
    file = next((tmp_path / "data" / "0").iterdir())
    match change:
        case "added":
            shutil.copyfile(file, file.with_name("new.png"))
        case "removed":
            file.unlink()
        case "renamed":
            file.rename(file.with_name("new.png"))
        case _:
            file.rename(tmp_path / "data" / "1" / "new.png")

    assert parameters(resolve(recipe))["source_data"] != before["source_data"]


def test_added_data_is_prepared_and_trained_on_anew(grown):
    assert grown.code == 0, grown.err
    assert grown.reused == []
    assert grown.worked == ["prepare source", "pretrain", "register source", "close record"]
    assert grown.after == {"two-source": ["1", "2"]}


def test_a_recipe_without_target_pretrains_and_registers_only(small):
    assert small.code == 0, small.err
    assert small.worked == ["prepare source", "pretrain", "register source", "close record"]
    assert re.search("^registered +models:/two-source/1$", small.out, re.MULTILINE)
    assert "report" not in small.out


# A workspace elsewhere, and damaged.


def test_in_a_copied_workspace_steps_are_reused_and_only_the_one_whose_artifact_is_damaged_runs_again(copied):
    assert copied.code == 0, copied.err
    assert copied.reused == ["pretrain"]
    assert copied.worked[0] == "prepare source"
    assert copied.before == copied.after == {"two-source": ["1"]}


def test_a_damaged_artifact_is_named(copied):
    (line,) = copied.err.splitlines()
    assert re.fullmatch(rf"headstart: {copied.workspace}/pipeline/.*/dataset is damaged; its step runs again\.", line)


def test_a_copied_workspace_writes_nothing_into_the_original(copied):
    assert json.loads((copied.workspace.parent / "changed.json").read_text()) == []


def test_what_a_copied_workspace_registered_before_is_read_from_the_copy(cli, copied, small):
    version = copied.client.get_model_version("two-source", "1")
    logged = copied.client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.artifact_location.startswith(copied.workspace.as_uri())
    picture = next(small.workspace.parent.glob("data/0/*.png"))
    answer = cli("predict", "models:/two-source/1", picture, "--workspace", copied.workspace)
    assert (answer.code, answer.err) == (0, "")
