"""The commands, one by one."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from headstart.data.dataset import Dataset
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle
from headstart.version import __version__
from headstart_pipelines.commands.tracking import page_command

COMMANDS = [
    "demo", "run", "search", "init", "check", "compare", "report", "ui", "clean", "completion", "schema",
    "prepare", "rank", "import", "predict", "export", "evaluate", "serve", "promote", "rollback", "history",
    "lineage", "diff", "monitor", "compile", "submit", "runs", "logs", "retry", "terminate", "schedule",
]  # fmt: skip


# Help


def test_help_lists_every_command(cli):
    answer = cli("--help")

    assert answer.code == 0
    assert re.findall(r"^    (\w+)  ", answer.out, re.MULTILINE) == COMMANDS


def test_help_has_the_commands_in_groups(cli):
    assert re.findall(r"^  (\w[\w ]+):$", cli("--help").out, re.MULTILINE) == [
        "on this machine", "data", "models", "on a cluster",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(cli, command):
    answer = cli(command, "--help")

    assert answer.code == 0
    assert f"example:\n  headstart {command}" in answer.out


@pytest.mark.parametrize("command", [
    "compare", "demo", "history", "lineage", "monitor", "predict", "prepare", "promote", "rank", "rollback", "run",
    "runs", "schedule", "search", "submit",
])  # fmt: skip
def test_what_lists_something_has_it_as_json(cli, command):
    assert "--json" in cli(command, "--help").out


def test_version_is_the_packages(cli):
    assert cli("--version").out == f"headstart {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["run"], ["run", "a.yaml", "--runner", "magic"], ["compile", "nap", "-o", "x.yaml"]]
)
def test_wrong_usage_ends_with_exit_code_2(cli, arguments):
    answer = cli(*arguments)

    assert answer.code == 2
    assert "usage: headstart" in answer.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu", "digits"], "run"),
        (["promot"], "promote"),
        (["run", "digits", "--wrokspace=x"], "--workspace"),
        (["compare", "digits", "--jsno"], "--json"),
        (["run", "digit"], "digits"),
        (["compile", "transfer", "-o", "x.yaml", "--profile", "single-gpus"], "single-gpu"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_likely_meant(cli, arguments, meant):
    answer = cli(*arguments)

    assert answer.code == 2
    assert f"did you mean {meant}?" in answer.err


# compare


def test_compare_gives_the_documented_keys_for_every_contender(cli, first):
    answer = cli("compare", "digits", "--json", "--workspace", first.workspace)

    rows = json.loads(answer.out)
    assert sorted(row["strategy"] for row in rows) == ["classical", "full", "partial", "scratch", "zero"]
    for row in rows:
        assert list(row) == [
            "strategy", "source", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "gain", "gain_low",
            "gain_high", "gain_over_best", "gain_over_best_low", "gain_over_best_high", "seconds", "run_id", "same_as",
            "members", "seconds_saved", "flops_saved", "pretraining_seconds", "pays_after_targets",
        ]  # fmt: skip


def test_compare_agrees_with_the_leaderboard_of_the_run(cli, first):
    rows = json.loads(cli("compare", "digits", "--json", "--workspace", first.workspace).out)

    for row, entry in zip(rows, first.leaderboard.rows(), strict=True):
        assert row["strategy"] == entry["strategy"]
        for key in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "gain", "gain_low", "gain_high"):
            assert row[key] == pytest.approx(entry[key])


def test_compare_sorts_by_the_key_that_is_asked_for(cli, first):
    rows = json.loads(cli("compare", "digits", "--sort", "seconds", "--json", "--workspace", first.workspace).out)

    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_compare_prints_a_table_for_people(cli, first):
    answer = cli("compare", "digits", "--workspace", first.workspace)

    assert answer.out.split()[:2] == ["strategy", "accuracy"]
    header, *rows = answer.out.partition("source:")[0].splitlines()
    board = first.leaderboard
    assert sorted(row.split()[0] for row in rows) == sorted(entry.strategy for entry in board.entries)
    assert [row.split()[0] for row in rows if "←" in row] == [board.chosen.strategy]
    assert len(header) <= 80
    assert "source: models:/digits-source/1" in answer.out
    assert board.sentence in " ".join(answer.out.split())


def test_compare_names_the_pages_that_show_it_and_what_must_run_for_that(cli, first):
    *_, condition, charts, compare_page, runs = cli(
        "compare", "digits", "--workspace", first.workspace
    ).out.splitlines()

    assert condition == f"While `headstart ui --workspace {first.workspace}` runs:"
    assert re.match(r"charts +http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?\S+$", charts)
    assert re.match(r"compare page +http://127\.0\.0\.1:5000/#/compare-runs\?\S+$", compare_page)
    assert all(entry.run_id in compare_page for entry in first.leaderboard.entries)
    assert re.match(r"all runs +http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?\S+$", runs)


def test_the_command_for_the_page_is_one_that_a_shell_takes():
    workspace = Path("my site #2; $HOME")

    assert shlex.split(page_command(workspace)) == ["headstart", "ui", "--workspace", str(workspace)]


def test_compare_of_all_runs_says_which_one_each_belongs_to(cli, changed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = cli("compare", "digits", "--all", "--workspace", changed.workspace).out.splitlines()

    assert "pipeline run" in lines[0]
    assert len({line.split()[-1] for line in lines[1:8]}) == 3


def test_compare_shows_the_latest_run_and_all_runs_on_demand(cli, changed):
    latest = json.loads(cli("compare", "digits", "--json", "--workspace", changed.workspace).out)
    every = json.loads(cli("compare", "digits", "--all", "--json", "--workspace", changed.workspace).out)

    assert sorted(row["strategy"] for row in latest) == ["full", "scratch", "zero"]
    assert sorted(row["strategy"] for row in every) == ["full"] * 3 + ["scratch"] * 3 + ["zero"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digitz"], ["'digitz'", "digits"]),
        (["compare", "digits", "--sort", "beauty"], ["'beauty'", "macro_f1"]),
        (["lineage", "digits-tarket"], ["digits-tarket", "digits-target"]),
        (["lineage", "digits-target/7"], ["digits-target/7"]),
        (["promote", "digits-target", "--version", "7"], ["digits-target/7"]),
        (["promote", "digits-source"], ["digits-source@challenger"]),
        (["rollback", "digits-tarket"], ["digits-tarket", "digits-target"]),
        (["history", "digits-tarket"], ["digits-tarket", "digits-target"]),
        (["predict", "models:/digits-target@best", "."], ["digits-target@best"]),
    ],
)
def test_what_is_not_in_the_record_is_named_together_with_what_is(cli, first, arguments, words):
    answer = cli(*arguments, "--workspace", first.workspace)

    (line,) = answer.err.splitlines()
    assert answer.code == 2
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "a"],
        ["lineage", "a"],
        ["promote", "a"],
        ["rollback", "a"],
        ["history", "a"],
        ["predict", "models:/a/1", "."],
        ["ui"],
    ],
)
def test_a_workspace_without_a_record_is_named(cli, tmp_path, arguments):
    answer = cli(*arguments, "--workspace", tmp_path / "nothing")

    (line,) = answer.err.splitlines()
    assert answer.code == 2
    assert "nothing" in line
    assert "--workspace" in line
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("scheme", ["ftp", "gopher"])
def test_an_address_of_the_record_is_shown_without_its_password(cli, monkeypatch, scheme):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann:canary@host/x")
    answer = cli("compare", "digits")

    (line,) = answer.err.splitlines()
    assert answer.code == 1
    assert f"{scheme}://host/x" in line
    assert "canary" not in answer.out + answer.err
    assert "ann" not in line.replace("cannot", "")


# lineage and promote


def test_lineage_of_the_target_names_its_source(cli, first):
    family = json.loads(cli("lineage", "digits-target/1", "--json", "--workspace", first.workspace).out)

    assert {"model", "version", "digest", "source", "descendants"} <= family.keys()
    assert (family["model"], family["version"], family["descendants"]) == ("digits-target", "1", [])
    assert (family["source"]["model"], family["source"]["version"]) == ("digits-source", "1")
    assert re.fullmatch("sha256:[0-9a-f]{64}", family["source"]["digest"])


def test_lineage_of_the_source_names_its_descendants(cli, first):
    family = json.loads(cli("lineage", "digits-source", "--json", "--workspace", first.workspace).out)

    assert family["source"] is None
    assert [(child["model"], child["version"]) for child in family["descendants"]] == [("digits-target", "1")]


def test_lineage_is_drawn_as_a_tree_for_people(cli, first):
    lines = cli("lineage", "digits-target", "--workspace", first.workspace).out.splitlines()

    assert "digits-source/1" in lines[0]
    assert "digits-target/1" in lines[1]
    assert "@challenger" in lines[1]


def test_lineage_is_drawn_as_a_flowchart_for_documents(cli, first):
    lines = cli("lineage", "digits-target", "--mermaid", "--workspace", first.workspace).out.splitlines()

    assert lines[0] == "flowchart TD"
    assert lines[-1] == "    m0 --> m1"


def test_the_champions_that_descend_from_a_source_are_listed(cli, own):
    arguments = ["lineage", "digits-source", "--champions", "--workspace", own.workspace]
    assert cli(*arguments).out == "No champion descends from digits-source.\n"
    own.client.set_registered_model_alias("digits-target", "champion", "1")

    (champion,) = json.loads(cli(*arguments, "--json").out)

    assert (champion["model"], champion["version"]) == ("digits-target", "1")
    assert "digits-target/1" in cli(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--force"], ["--force", "--reason"]),
        (["--policy", "absent.yaml"], ["absent.yaml"]),
        (["--policy", "policy.yaml"], ["policy.yaml", "max_leeked", "max_leaked"]),
        (["--reason", "x" * 1001], ["--reason", "1000"]),
    ],
)
def test_promote_refuses_what_it_cannot_use_before_it_judges(cli, first, arguments, words):
    Path("policy.yaml").write_text("max_leeked: 1\n")

    answer = cli("promote", "digits-target", *arguments, "--workspace", first.workspace)

    (line,) = answer.err.splitlines()
    assert answer.code == 2
    for word in words:
        assert word in line


def test_a_champion_is_refused_promoted_moved_by_hand_and_rolled_back(cli, own, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    # So little training need not gain anything.
    Path("policy.yaml").write_text("min_gain: null\n")
    Path("strict.yaml").write_text("min_gain: null\nmin_metrics: {accuracy: 1.0}\n")

    def headstart(command, *arguments):
        return cli(command, "digits-target", *arguments, "--workspace", own.workspace)

    assert "never had a champion" in headstart("history").out
    assert json.loads(headstart("history", "--json").out) == []

    refused = headstart("promote", "--policy", "strict.yaml")
    assert refused.code == 1
    assert re.search(r"✗  min_metrics\.accuracy +0\.\d{3}  ≥ 1 ", refused.out)
    for name in ("against_champion", "max_class_regression", "max_leaked", "lineage"):
        assert sum(f"  {name} " in line for line in refused.out.splitlines()) == 1
    assert "min_metrics.accuracy refused it" in refused.err.splitlines()[-1]
    assert "champion" not in own.client.get_registered_model("digits-target").aliases

    change = json.loads(headstart("promote", "--policy", "policy.yaml", "--reason", "[bold]why", "--json").out)
    assert (change["version"], change["previous"], change["reason"]) == ("1", None, "[bold]why")
    assert {gate["name"]: gate["passed"] for gate in change["gates"]} == {
        "against_champion": None, "max_class_regression": None, "max_leaked": True, "lineage": True, "loads": True,
    }  # fmt: skip
    assert str(own.client.get_registered_model("digits-target").aliases["champion"]) == "1"
    assert "is the champion already" in headstart("promote").out

    own.client.delete_registered_model_alias("digits-target", "champion")
    back = json.loads(headstart("rollback", "--json").out)
    assert (back["model"], back["version"], back["previous"]) == ("digits-target", "1", None)
    changes = json.loads(headstart("history", "--json").out)
    assert [(change["kind"], change["version"], change["previous"]) for change in changes] == [
        ("rollback", "1", None), ("outside", None, "1"), ("promotion", "1", None),
    ]  # fmt: skip
    for change in changes:
        assert list(change)[:7] == ["version", "previous", "at", "by", "reason", "forced", "gates"]
    shown = headstart("history").out
    assert "[bold]why" in shown
    assert "not made by headstart" in shown
    assert max(map(len, (refused.out + shown).splitlines())) <= 80


# predict


@pytest.fixture
def photos(images: Path, tmp_path: Path) -> Path:
    """A folder with three pictures in two folders and a file that is none."""
    for label, name in (("0", "0000.png"), ("0", "0010.png"), ("1", "0001.png")):
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / "digits" / label / name, tmp_path / "photos" / label / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def test_predict_gives_a_class_and_a_probability_for_each_picture_of_a_folder(cli, first, photos):
    answer = cli("predict", "models:/digits-target@challenger", photos, "--workspace", first.workspace)

    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert (answer.code, answer.err) == (0, "")
    assert [path for path, _, _ in rows] == [str(photos / p) for p in ("0/0000.png", "0/0010.png", "1/0001.png")]
    for _, label, probability in rows:
        assert label in "0123456789"
        assert 0.1 <= float(probability) <= 1


def test_predict_takes_a_bundle_as_well_as_a_registered_model(cli, first, photos):
    bundle, _ = first.artifact("evaluate", "winner")

    registered = cli("predict", "models:/digits-target/1", photos, "--workspace", first.workspace)

    assert cli("predict", bundle, photos).out == registered.out


def test_predict_writes_tables(cli, first, photos):
    bundle, _ = first.artifact("evaluate", "winner")
    for ending in ("csv", "json", "parquet"):
        assert cli("predict", bundle, photos, "-o", f"table.{ending}").code == 0

    with open("table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["label"] for row in json.loads(Path("table.json").read_text())]
    assert [row["label"] for row in rows] == pd.read_parquet("table.parquet")["label"].tolist()
    for row in rows:
        assert sum(float(row[f"p_{label}"]) for label in "0123456789") == pytest.approx(1, abs=1e-4)


def test_predict_prints_json_and_takes_tables_and_small_batches(cli, first, photos):
    bundle, _ = first.artifact("evaluate", "winner")
    (photos / "list.csv").write_text("path\n1/0001.png\n0/0000.png\n0/0010.png\n")

    whole = json.loads(cli("predict", bundle, photos, "--json").out)
    listed = json.loads(cli("predict", bundle, photos / "list.csv", "--json", "--batch-size", "2").out)

    assert [row["path"] for row in listed] == [whole[index]["path"] for index in (2, 0, 1)]
    assert [row["label"] for row in listed] == [whole[index]["label"] for index in (2, 0, 1)]


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_predict_refuses_a_batch_of_no_size(cli, size):
    answer = cli("predict", "bundle", "photos", "--batch-size", size)

    assert answer.code == 2
    assert f"{size} is not a whole number above 0" in answer.err


def test_predict_goes_on_after_a_broken_file_and_reports_it(cli, first, photos):
    bundle, _ = first.artifact("evaluate", "winner")
    (photos / "0" / "0005.png").write_text("no picture")

    answer = cli("predict", bundle, photos)

    assert answer.code == 1
    assert answer.err.startswith("headstart: 1 of 4 files could not be read")
    assert [line.split("\t")[1] == "-" for line in answer.out.splitlines()] == [False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["absent.png"], "absent.png"), (["empty"], "empty"), (["empty", "-o", "table.xls"], ".csv")],
)
def test_predict_refuses_what_it_cannot_do(cli, first, photos, arguments, words):
    bundle, _ = first.artifact("evaluate", "winner")
    Path("empty").mkdir()
    if "table.xls" in arguments:
        shutil.copytree(photos, "empty", dirs_exist_ok=True)

    answer = cli("predict", bundle, *arguments)

    assert answer.code == 2
    assert words in answer.err


# export


def test_export_writes_a_model_that_answers_as_predict_does(cli, first, photos):
    import onnxruntime

    answer = cli("export", "models:/digits-target@challenger", "-o", "digits.onnx", "--workspace", first.workspace)

    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("digits.onnx: onnx, 10 classes, licence not known; outputs differ by ")
    session = onnxruntime.InferenceSession("digits.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    bundle, details = first.artifact("evaluate", "winner")
    assert metadata["digest"] == details["digest"]
    kind, preprocessing = modality("image"), ModelBundle.load(bundle).preprocessing
    paths = sorted(photos.rglob("*.png"))
    samples = [kind.decode(path.read_bytes(), preprocessing.size, preprocessing.channels) for path in paths]
    (probabilities,) = session.run(None, {"images": np.stack(samples)})
    rows = json.loads(cli("predict", bundle, photos, "--json").out)
    expected = [[row[f"p_{label}"] for label in json.loads(metadata["classes"])] for row in rows]
    assert probabilities == pytest.approx(np.array(expected), abs=1e-4)


def test_export_refuses_a_name_that_does_not_tell_the_format(cli):
    answer = cli("export", "bundle", "-o", "model.pt")

    assert answer.code == 2
    assert "--format is not given; choose one of hf, onnx, timm, torch" in answer.err


# prepare and compile


def test_prepare_packs_verifies_and_reports_a_folder(cli, images):
    answer = cli("prepare", images / "digits", "-o", "packed", "--size", "8", "--labels-per-class", "3")

    packed = Dataset.open(Path("packed"))
    assert answer.code == 0
    assert packed.counts["train"] + packed.counts["val"] == 30
    assert packed.digest in answer.out
    assert "report: packed/report.html" in answer.out


def test_prepare_says_what_it_left_out_and_what_it_could_not_do(cli, images, tmp_path, caplog):
    pictures = tmp_path / "pictures"
    shutil.copytree(images / "digits", pictures)
    for number in range(11):
        (pictures / "1" / f"damaged{number}.png").write_bytes(b"damaged")
    (pictures / ".DS_Store").touch()

    answer = cli("prepare", pictures, "-o", "packed", "--size", "8", "--labels-per-class", "1000",
                 "--max-refused", "0.9", "--max-refused-per-class", "0.9")  # fmt: skip

    assert answer.code == 0
    said = " ".join(caplog.messages)
    assert "Not taken in: 11 files, listed in quarantine.jsonl: 1/damaged0.png: " in said
    assert "(11 such)" in said
    assert "Fewer than labels_per_class = 1000 samples beside the test split, all of them used: '0', '1'" in said
    for note in json.loads(Path("packed/manifest.json").read_text())["notes"]:
        assert note in said


def test_prepare_gives_the_manifest_as_json(cli, images):
    answer = cli("prepare", images / "digits", "-o", "packed", "--size", "8", "--json")

    assert json.loads(answer.out) == json.loads(Path("packed/manifest.json").read_text())


def test_prepare_packs_pictures_without_labels(cli, images):
    answer = cli("prepare", images / "digits" / "0", "-o", "packed", "--size", "8")

    assert answer.code == 0
    assert answer.out.startswith("no classes; ")
    assert Dataset.open(Path("packed")).classes == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--size", "2"], "size"),
        ([".", "--labels-per-class", "0"], "labels_per_class"),
        ([".", "--modality", "smell"], "There is no 'smell' among headstart's modalities"),
    ],
)
def test_prepare_refuses_what_cannot_become_a_data_set(cli, arguments, words):
    answer = cli("prepare", *arguments, "-o", "packed")

    assert answer.code == 2
    assert words in answer.err
    assert not Path("packed").exists()


def test_prepare_takes_the_settings_of_a_recipes_data_section(cli, images, tmp_path):
    pictures = tmp_path / "pictures"
    shutil.copytree(images / "digits", pictures)
    copied = next((pictures / "0").iterdir())
    shutil.copy(copied, copied.with_name("copy.png"))
    for number in range(12):
        (pictures / "1" / f"damaged{number}.png").write_bytes(b"damaged")

    answer = cli("prepare", pictures, "-o", "packed", "--size", "8", "--json")
    assert answer.code == 2
    assert "max_refused_per_class allows" in answer.err
    allowed = ["--size", "8", "--max-refused", "0.5", "--max-refused-per-class", "0.5"]
    answer = cli("prepare", pictures, "-o", "packed", *allowed, "--duplicates", "fail")
    assert answer.code == 2
    assert "duplicates: fail" in answer.err
    answer = cli("prepare", pictures, "-o", "packed", *allowed, "--duplicates", "drop", "--store", "jpeg", "--json")
    assert answer.code == 0
    manifest = json.loads(answer.out)
    assert (manifest["store"], manifest["settings"]["duplicates"], manifest["quarantined"]) == ("jpeg", "drop", 13)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--duplicates", "keep", "duplicates: 'keep' is not one of 'report', 'drop' or 'fail'."),
        ("--store", "png", "store: 'png' is not one of 'auto', 'raw' or 'jpeg'."),
        ("--max-refused", "1.5", "max_refused: 1.5 must be less than or equal to 1."),
        ("--max-refused-per-class", "-0.1", "max_refused_per_class: -0.1 must be greater than or equal to 0."),
        ("--max-refused", "some", "--max-refused: invalid float value: 'some'"),
    ],
)
def test_prepare_refuses_settings_as_a_recipe_does(cli, images, option, value, words):
    answer = cli("prepare", images / "digits", "-o", "packed", option, value)

    assert answer.code == 2
    assert words in answer.err
    assert not Path("packed").exists()


def test_compile_writes_the_file_and_names_it(cli):
    answer = cli("compile", "pretrain", "-o", "pretrain.yaml")

    assert (answer.code, answer.out) == (0, "pretrain.yaml\n")
    assert "name: pretrain" in Path("pretrain.yaml").read_text()


def test_compile_places_the_steps_by_a_profile(cli):
    profile = Path(__file__).parents[2] / "infra" / "profiles" / "single-gpu.yaml"
    image = "registry.example.com/headstart@sha256:" + "a" * 64

    answer = cli("compile", "pretrain", "-o", "pretrain.yaml", "--profile", profile, "--image", image)

    assert answer.code == 0
    package, platform = yaml.safe_load_all(Path("pretrain.yaml").read_text())
    training = package["deploymentSpec"]["executors"]["exec-pretrain"]["container"]
    assert training["image"] == image
    assert training["resources"]["accelerator"]
    assert platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-pretrain"]["securityContext"]


def test_compile_with_a_profile_wants_a_digest_or_to_be_told_that_a_tag_will_do(cli):
    options = ["-o", "a.yaml", "--profile", Path(__file__).parents[2] / "infra/profiles/cpu.yaml", "--image", "own:1"]

    refused = cli("compile", "pretrain", *options)

    assert refused.code == 2
    assert "the image own:1 is named without a digest" in refused.err
    assert not Path("a.yaml").exists()
    assert cli("compile", "pretrain", *options, "--allow-tag").code == 0


@pytest.mark.parametrize("output", ["pretrain.txt", "nowhere/pretrain.yaml"])
def test_compile_refuses_a_file_that_it_cannot_write(cli, output):
    answer = cli("compile", "pretrain", "-o", output)

    assert answer.code == 2
    assert output in answer.err


# check


def test_check_without_a_recipe_looks_at_the_installation(cli, monkeypatch):
    monkeypatch.setattr("headstart_pipelines.health.health", lambda: iter(["device      CPU"]))

    answer = cli("check")

    assert (answer.code, answer.out) == (0, "device      CPU\n")


def test_check_without_a_recipe_has_nothing_to_set(cli):
    answer = cli("check", "--set", "seed=1")

    assert answer.code == 2
    assert answer.err == "headstart: --set changes a recipe; name its file, or remove --set.\n"


# Odd surroundings


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_workspace_that_is_a_file_is_refused(cli, images, command):
    Path("recipe.yaml").write_text(f"name: a\nsource: {{data: {{uri: {images / 'digits'}}}}}\n")
    Path("file").write_text("")

    answer = cli(command, "recipe.yaml", "--workspace", "file")

    assert answer.code == 2
    assert "file" in answer.err


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "digits", "--json"], ["compare", "digits"]])
def test_a_reader_that_had_enough_is_no_failure(first, arguments):
    if arguments != ["--help"]:
        arguments = [*arguments, "--workspace", str(first.workspace)]
    # Output that stays in a buffer until the end is the harder case.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = subprocess.Popen(
        [sys.executable, "-m", "headstart_pipelines.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    command.stdout.close()

    error = command.stderr.read()
    command.stderr.close()

    assert (command.wait(), error) == (0, b"")


def test_the_server_of_the_environment_is_where_the_page_is(cli, monkeypatch, first):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{first.workspace}/mlflow.db")

    answer = cli("compare", "digits", "--json", "--workspace", "elsewhere")

    assert answer.code == 0
    assert len(json.loads(answer.out)) == 5
