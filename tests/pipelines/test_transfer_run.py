"""`headstart run` of the whole pipeline `transfer`: source, pretraining, strategies, baselines, verdict, registry."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss

from headstart.data.dataset import Dataset
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import by_content
from headstart.training.trained import read_held_out

STRATEGIES = ["zero", "partial", "full"]
BASELINES = ["scratch", "classical"]
CONTENDERS = STRATEGIES + BASELINES
STEPS = {
    "prepare-source",
    "pretrain",
    "register-source",
    "prepare-target",
    "select-source",
    "evaluate",
    "register-target",
}
TEST_METRICS = {
    "test/accuracy",
    "test/accuracy_low",
    "test/accuracy_high",
    "test/macro_precision",
    "test/macro_recall",
    "test/macro_f1",
    "test/ece",
}
GAIN = {"gain/accuracy", "gain/accuracy_low", "gain/accuracy_high"}


# What a person sees


def test_the_run_succeeds_and_has_nothing_to_complain_about(first):
    assert (first.code, first.err) == (0, "")


def test_each_step_gets_one_line_with_its_time_in_the_order_of_the_work(first):
    chains = [
        ["prepare source", "pretrain", "select source", "fit baselines", "evaluate", "register target", "close record"],
        ["pretrain", "register source", "evaluate"],
        *(["prepare target", "select source", f"finetune {name}", "evaluate"] for name in STRATEGIES),
    ]

    assert sorted(first.worked) == sorted({step for chain in chains for step in chain})
    # Steps that do not depend on each other run side by side.
    for chain in chains:
        assert [step for step in first.worked if step in chain] == chain


def test_nothing_is_reused_in_a_fresh_workspace(first):
    assert first.reused == []
    assert not re.search("^reused", first.out, re.MULTILINE)


def test_the_output_ends_with_what_was_registered_and_where_everything_is(first):
    ending = dict(line.split(maxsplit=1) for line in first.out.replace("MLflow page", "page").splitlines()[-4:])

    assert ending["registered"].split() == ["models:/digits-source/1", "models:/digits-target/1"]
    assert (first.workspace.parent / ending["report"]).is_file()
    assert (first.workspace.parent / ending["log"]).is_file()
    assert ending["page"].startswith("headstart ui --workspace ")


def test_the_printed_leaderboard_has_a_line_for_every_strategy_and_baseline(first):
    table = first.out.partition("strategy  ")[2]

    assert {line.split()[0] for line in table.splitlines()[1 : 1 + len(CONTENDERS)]} == set(CONTENDERS)


def test_the_printed_verdict_is_the_leaderboards(first):
    assert first.leaderboard.sentence in " ".join(first.out.split())


def test_what_is_delivered_has_a_line_of_its_own(first):
    assert re.search(rf"^delivered +{re.escape(first.leaderboard.delivery)}$", first.out, re.MULTILINE)
    assert first.parent.data.tags["headstart.delivered"] == first.leaderboard.delivered


def test_the_working_directory_gets_nothing_but_the_workspace(first):
    assert {path.name for path in first.workspace.parent.iterdir()} == {
        "digits.yaml", "execution.json", "temporary", "workspace"
    }  # fmt: skip


# The leaderboard


def test_the_leaderboard_judges_every_strategy_and_baseline_once(first):
    assert sorted(entry.strategy for entry in first.leaderboard.entries) == sorted(CONTENDERS)


def test_the_leaderboard_is_sorted_from_best_to_worst(first):
    values = [entry.value for entry in first.leaderboard.entries]

    assert values == sorted(values, reverse=True)


def test_a_gain_is_the_difference_to_scratch_on_the_same_samples(first):
    entries = {entry.strategy: entry for entry in first.leaderboard.entries}

    for name in STRATEGIES:
        assert entries[name].gain == pytest.approx(entries[name].value - entries["scratch"].value)
        assert entries[name].gain_low <= entries[name].gain <= entries[name].gain_high


def test_baselines_have_neither_gain_nor_source(first):
    for entry in first.leaderboard.entries:
        if entry.strategy in BASELINES:
            assert (entry.gain, entry.source) == (None, None)


def test_held_out_samples_alone_choose_and_only_among_the_strategies(first):
    losses = {}
    for number, name in enumerate(STRATEGIES):
        held_out = read_held_out(first.artifact(f"for-loop-2-iteration-{number}/finetune", "model")[0])
        losses[name] = log_loss(held_out.labels, held_out.probabilities, labels=range(10))

    assert first.leaderboard.chosen.strategy == min(losses, key=lambda name: losses[name])
    assert set(first.leaderboard.ties) <= set(STRATEGIES)


def test_every_strategy_starts_from_the_source_that_was_just_registered(first):
    for entry in first.leaderboard.entries:
        if entry.strategy in STRATEGIES:
            assert entry.source.partition("#")[0] == "models:/digits-source/1"


# MLflow


def test_the_pipeline_run_has_one_parent_in_the_recipes_experiment(first):
    assert first.client.get_experiment(first.parent.info.experiment_id).name == "digits"
    assert first.parent.info.status == "FINISHED"
    assert first.parent.data.tags["headstart.pipeline_run"] == first.parent.info.run_name


def test_the_parent_has_one_finished_child_for_each_step_strategy_and_baseline(first):
    assert set(first.children) == STEPS | set(CONTENDERS)
    assert {run.info.status for run in first.children.values()} == {"FINISHED"}


def test_there_are_no_runs_besides_the_parent_and_its_children(first):
    found = first.client.search_runs([first.parent.info.experiment_id])

    assert len(found) == 1 + len(first.children)


def test_no_run_lies_in_mlflows_default_experiment(first):
    assert first.client.search_runs(["0"]) == []


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("source", ["prepare-source", "pretrain", "register-source"]),
        ("target", ["prepare-target", "register-target", *STRATEGIES]),
        ("baseline", BASELINES),
    ],
)
def test_the_role_tag_says_what_a_run_works_on(first, role, names):
    assert {name for name, run in first.children.items() if run.data.tags.get("headstart.role") == role} == set(names)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_run_names_strategy_source_data_and_model(first, name):
    tags = first.children[name].data.tags

    assert tags["headstart.strategy"] == name
    assert tags["headstart.source_model"] == "models:/digits-source/1"
    assert re.fullmatch("sha256:[0-9a-f]{64}", tags["headstart.data_digest"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", tags["headstart.model_digest"])


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_contenders_run_has_the_test_metrics_under_their_documented_names(first, name):
    metrics = first.children[name].data.metrics

    assert metrics.keys() >= TEST_METRICS | {"time/seconds"}
    assert (metrics.keys() >= GAIN) == (name in STRATEGIES)


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_record_and_the_leaderboard_agree(first, name):
    (entry,) = (entry for entry in first.leaderboard.entries if entry.strategy == name)
    metrics = first.children[name].data.metrics

    assert entry.run_id == first.children[name].info.run_id
    assert metrics["test/accuracy"] == pytest.approx(entry.value)
    assert metrics["test/accuracy_low"] == pytest.approx(entry.low)
    assert metrics["test/accuracy_high"] == pytest.approx(entry.high)
    assert metrics["test/macro_f1"] == pytest.approx(entry.macro_f1)
    assert metrics.get("gain/accuracy") == pytest.approx(entry.gain)


@pytest.mark.parametrize("name", ["pretrain", "partial", "full", "scratch"])
# Validation begins at the start, before any training.
@pytest.mark.parametrize(("metric", "begin"), [("train/loss", 1), ("val/loss", 0), ("val/accuracy", 0)])
def test_what_is_measured_in_training_has_the_epoch_as_its_step(first, name, metric, begin):
    history = first.client.get_metric_history(first.children[name].info.run_id, metric)

    assert sorted(point.step for point in history) == list(range(begin, 17 if name == "pretrain" else 3))


@pytest.mark.parametrize("name", ["pretrain", "partial", "full"])
def test_training_runs_record_their_speed(first, name):
    assert first.children[name].data.metrics["speed/samples_per_second"] > 0


def test_the_parent_carries_the_answer(first):
    chosen, parent = first.leaderboard.chosen, first.parent

    assert parent.data.metrics["test/accuracy"] == pytest.approx(chosen.value)
    assert parent.data.metrics["gain/accuracy"] == pytest.approx(chosen.gain)
    assert parent.data.tags["headstart.strategy"] == chosen.strategy
    assert first.leaderboard.explanation in parent.data.tags["mlflow.note.content"]


def test_the_resolved_recipe_is_stored_with_the_run(first, tmp_path):
    path = first.client.download_artifacts(first.parent.info.run_id, "recipe.json", str(tmp_path))
    recipe = json.loads(Path(path).read_text())

    assert recipe["target"]["data"]["labels_per_class"] == 2
    assert recipe["target"]["data"]["fingerprint"].startswith("stat:")
    assert recipe["evaluation"]["confidence"] == 0.95, "defaults are written out"


# The registry


def test_source_and_target_are_registered_as_first_versions(first):
    assert first.before == {}
    assert first.after == {"digits-source": ["1"], "digits-target": ["1"]}


def test_the_new_target_version_is_the_challenger_and_nobody_is_champion(first):
    aliases = first.client.get_registered_model("digits-target").aliases

    assert {alias: str(version) for alias, version in aliases.items()} == {"challenger": "1"}
    assert first.client.get_registered_model("digits-source").aliases == {}


def test_the_target_version_names_its_source_and_the_sources_digest(first):
    source = first.client.get_model_version("digits-source", "1")
    target = first.client.get_model_version("digits-target", "1")

    assert target.tags["headstart.source_model"] == "models:/digits-source/1"
    assert target.tags["headstart.source_digest"] == source.tags["headstart.model_digest"]


def test_the_source_version_names_its_descendant(first):
    source = first.client.get_model_version("digits-source", "1")
    target = first.client.get_model_version("digits-target", "1")

    assert source.tags["headstart.descendant/digits-target/1"] == target.tags["headstart.model_digest"]


def test_the_target_version_is_the_chosen_strategys_model(first):
    chosen = first.leaderboard.chosen.strategy
    target = first.client.get_model_version("digits-target", "1")

    assert target.tags["headstart.strategy"] == chosen
    assert target.tags["headstart.model_digest"] == first.children[chosen].data.tags["headstart.model_digest"]
    assert target.run_id == first.children[chosen].info.run_id
    assert first.leaderboard.sentence in target.description


# Artifacts


def test_the_report_is_one_file_that_refers_to_no_other(first):
    page = (first.folder / "evaluate" / "report").read_text()

    assert not re.search(r"<(script|link|iframe|object)\b|@import", page)
    assert not re.search(r"""\b(src|href)=["'](?!#|data:)|url\((?!["']?(#|data:))""", page)
    for name in CONTENDERS:
        assert name in page


def test_predictions_hold_one_row_for_each_test_sample_of_each_contender(first):
    folder, _ = first.artifact("evaluate", "predictions")
    ids = Dataset.open(first.artifact("prepare-data-2", "dataset")[0]).split("test").ids

    assert {path.name for path in folder.iterdir()} == {f"{name}.parquet" for name in CONTENDERS}
    for path in folder.iterdir():
        assert pq.read_table(path)["id"].to_pylist() == list(ids)


def test_test_samples_are_neither_training_nor_validation_samples(first):
    dataset = Dataset.open(first.artifact("prepare-data-2", "dataset")[0])
    test, train, val = (set(dataset.split(name).ids) for name in ("test", "train", "val"))

    assert len(train | val) == 20, "2 labels for each of 10 classes train and choose together"
    assert not test & (train | val)
    assert not train & val


def test_the_confusion_matrix_of_the_winner_is_shown_by_kubeflow(first):
    _, metadata = first.artifact("evaluate", "confusion")
    matrix = np.array([row["row"] for row in metadata["confusionMatrix"]["rows"]])
    test = Dataset.open(first.artifact("prepare-data-2", "dataset")[0]).split("test")

    assert [spec["displayName"] for spec in metadata["confusionMatrix"]["annotationSpecs"]] == list("0123456789")
    assert matrix.sum(1).tolist() == np.bincount(test.labels).tolist(), "rows are true classes"
    assert matrix.trace() / matrix.sum() == pytest.approx(first.leaderboard.chosen.value)


@pytest.mark.parametrize(
    ("step", "name", "run"),
    [
        ("prepare-data", "dataset", "prepare-source"),
        ("prepare-data-2", "dataset", "prepare-target"),
        ("pretrain", "model", "pretrain"),
        ("select-source", "source", "select-source"),
        ("for-loop-2-iteration-0/finetune", "model", "zero"),
        ("for-loop-2-iteration-1/finetune", "model", "partial"),
        ("for-loop-2-iteration-2/finetune", "model", "full"),
        ("evaluate", "winner", None),
    ],
)
def test_an_artifact_says_what_it_holds_and_which_mlflow_run_made_it(first, step, name, run):
    path, metadata = first.artifact(step, name)
    digest = bundle_digest(path) if (path / "model.json").exists() else Dataset.open(path).digest

    assert metadata["digest"] == digest
    assert metadata["run_id"] == first.children[run or first.leaderboard.chosen.strategy].info.run_id


def test_the_chosen_sources_artifact_says_which_version_it_will_be_registered_as(first):
    path, metadata = first.artifact("select-source", "source")

    assert metadata["source"] == by_content("digits-source", bundle_digest(path))


def test_the_models_provenance_leads_back_to_the_source_and_the_data(first):
    path, _ = first.artifact("evaluate", "winner")
    provenance = ModelBundle.load(path).provenance
    source, _ = first.artifact("select-source", "source")

    assert provenance["source_digest"] == bundle_digest(source)
    assert provenance["data_digest"] == Dataset.open(first.artifact("prepare-data-2", "dataset")[0]).digest


# The log and secrets


def test_the_log_holds_every_steps_start_and_end(first):
    log = first.log.read_text()
    tasks = {
        "prepare-data": 1, "prepare-data-2": 1, "pretrain": 1, "register": 1, "register-2": 1, "select-source": 1,
        "fit-baselines": 1, "finetune": 3, "evaluate": 1, "close-record": 1,
    }  # fmt: skip

    for task, count in tasks.items():
        assert log.count(f"Executing task '{task}'") == count
        assert log.count(f"Task '{task}' finished with status SUCCESS") == count


def test_the_log_is_plain_text_without_progress_records(first):
    assert not re.search("[\x1b\x1e]", first.log.read_text())


def test_no_credential_of_the_environment_is_in_any_file_or_message_of_a_run(first, credentials):
    values = [value.encode() for value in credentials.values()]
    texts = {"stdout": first.out.encode(), "stderr": first.err.encode()}
    texts |= {str(path): path.read_bytes() for path in first.workspace.rglob("*") if path.is_file()}

    assert len(texts) > 50
    assert [name for name, text in texts.items() if any(value in text for value in values)] == []


def test_the_parents_time_spans_that_of_its_children(first):
    whole = first.parent.info

    for run in first.children.values():
        assert whole.start_time <= run.info.start_time <= run.info.end_time <= whole.end_time
