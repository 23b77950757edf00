"""The champion of pets-target: version 1 is right on 50 of 60 test items, and further versions are registered here."""

import getpass
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking import database
from headstart.tracking.champion_history import read_history
from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST, PROMOTION, SOURCE_DIGEST, SOURCE_MODEL
from headstart.tracking.policy import Policy
from headstart.tracking.promotion import promote, rollback
from headstart.tracking.registry import find_version
from headstart.training import engine
from tests.tracking.conftest import MODEL

# What decides here is the comparison with the champion.
NO_COMPARISON = Policy.of({"against_champion": "none", "max_class_regression": None})
# What decides here is who was first.
NO_GATES = Policy.of(
    {
        **{"against_champion": "none", "max_class_regression": None, "min_gain": None},
        **{"max_leaked": None, "lineage": False, "loads": False},
    }
)


@pytest.fixture
def by_hand(registry, family_home, tmp_path) -> Callable[[], str]:
    """Makes a version without evidence, which force alone promotes; returns its number."""
    run_id = registry.get_model_version(MODEL, "1").run_id
    shutil.copytree(family_home / "target", tmp_path / "by-hand" / "artifacts" / "bundle")
    source = (tmp_path / "by-hand").as_uri()
    return lambda: str(registry.create_model_version(MODEL, source, run_id=run_id).version)


@pytest.fixture
def weights(tmp_path) -> Callable[[str], Path]:
    """The weights' file of a version that `add` registered."""
    return lambda version: tmp_path / f"version-{version}" / "artifacts" / "bundle" / "model.safetensors"


@pytest.fixture(scope="session")
def crowned_store(once, family_home, open_store) -> Path:
    """The family's store after version 1 has become the champion."""

    def make(home: Path) -> None:
        shutil.copy(family_home / "mlflow.db", home)
        with open_store(home / "mlflow.db", home) as registry:
            force(registry, "1")

    return once("crowned-mlflow", make) / "mlflow.db"


@pytest.fixture
def crowned(registry, crowned_store, tmp_path) -> None:
    """Has version 1 be the champion of this test's store."""
    with (
        closing(sqlite3.connect(crowned_store)) as made,
        closing(sqlite3.connect(tmp_path / "mlflow.db")) as own,
    ):
        made.backup(own)


def champion(client) -> str | None:
    alias = client.get_registered_model(MODEL).aliases.get("champion")
    return str(alias) if alias else None


def force(client, version: str, reason: str = "a test"):
    """The change that makes a version champion, whatever a gate would say."""
    return promote(client, MODEL, version=version, policy=NO_GATES, reason=reason, force=True).change


def told(client) -> list[tuple[str | None, str | None, str]]:
    """The history, oldest first, as from, to and kind."""
    return [(each.previous, each.version, each.kind) for each in read_history(client, MODEL).changes]


def records(client) -> dict[str, list[str]]:
    """Names of the runs that record changes, by their status."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "tags.`headstart.role` = 'promotion'", run_view_type=ViewType.ALL)
    return {
        status: sorted(run.info.run_name for run in found if run.info.status == status)
        for status in sorted({run.info.status for run in found})
    }


# No champion; challenger wins; champion wins; gates refuse; forced


def test_the_first_champion_has_nobody_to_beat(registry, target):
    outcome = promote(registry, MODEL, reason="helped on the ward")
    assert (outcome.change.version, outcome.change.previous, outcome.refusals) == ("1", None, ())
    assert champion(registry) == "1"
    assert told(registry) == [(None, "1", "promotion")]


def test_a_challenger_that_is_better_on_the_same_items_wins(registry, add):
    promote(registry, MODEL)
    assert add(right=59) == "2"
    outcome = promote(registry, MODEL)
    assert (champion(registry), outcome.change.forced) == ("2", False)
    assert told(registry) == [(None, "1", "promotion"), ("1", "2", "promotion")]


def test_the_champion_is_nobodys_challenger(registry, add):
    promote(registry, MODEL)
    assert registry.get_registered_model(MODEL).aliases == {"champion": 1}
    again = promote(registry, MODEL)
    assert (again.version, again.promoted, again.gates) == ("1", False, ())
    second = add(right=40)
    promote(registry, MODEL, version="1")
    assert registry.get_registered_model(MODEL).aliases == {"champion": 1, "challenger": int(second)}


def test_a_champion_that_an_earlier_release_left_as_its_own_challenger_is_relieved_of_it(registry, target):
    force(registry, "1")
    registry.set_registered_model_alias(MODEL, "challenger", "1")
    assert not promote(registry, MODEL).promoted
    assert registry.get_registered_model(MODEL).aliases == {"champion": 1}


@pytest.mark.parametrize("right", [40, 50])
def test_a_champion_that_is_as_good_or_better_stays(registry, add, right):
    promote(registry, MODEL)
    add(right=right)
    outcome = promote(registry, MODEL)
    assert outcome.change is None
    assert "against_champion" in [gate.name for gate in outcome.refusals]
    assert champion(registry) == "1"
    assert told(registry) == [(None, "1", "promotion")]
    assert records(registry) == {"FINISHED": ["promotion pets-target/1"]}


def test_the_policy_decides_what_is_asked(registry, add):
    promote(registry, MODEL)
    add(right=50)
    strict = Policy.of({"against_champion": "not_worse", "min_metrics": {"accuracy": 0.9}})
    outcome = promote(registry, MODEL, policy=strict)
    assert [gate.name for gate in outcome.refusals] == ["min_metrics.accuracy"]
    assert promote(registry, MODEL, policy=Policy.of({"against_champion": "not_worse"})).change


def test_a_forced_promotion_is_recorded_with_what_it_overrode(registry, add):
    promote(registry, MODEL)
    add(right=40)
    change = promote(registry, MODEL, force=True, reason="the  old one\nleaks patients").change
    assert champion(registry) == "2"
    last = read_history(registry, MODEL).changes[-1]
    assert last == change
    assert (last.forced, last.reason) == (True, "the old one leaks patients")
    closed = {gate["name"]: gate["value"] for gate in last.gates if gate["passed"] is False}
    assert set(closed) == {"against_champion", "max_class_regression"}
    assert closed["against_champion"] < 0


def test_force_that_was_not_needed_is_not_recorded_as_forced(registry, target):
    assert promote(registry, MODEL, force=True, reason="to be sure").change.forced is False


def test_promoting_the_champion_again_changes_nothing(registry, target):
    promote(registry, MODEL, reason="first")
    outcome = promote(registry, MODEL, reason="second")
    assert (outcome.change, outcome.gates, outcome.champion) == (None, (), "1")
    assert [change.reason for change in read_history(registry, MODEL).changes] == ["first"]


# What is written down


def test_the_record_is_a_run_that_says_who_when_from_to_why(registry, add, monkeypatch):
    promote(registry, MODEL)
    add(right=59)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    change = promote(registry, MODEL, reason="site B").change
    run = registry.get_run(change.run_id)
    version = registry.get_model_version(MODEL, "2")
    assert registry.get_experiment(run.info.experiment_id).name == "promotions"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "promotion pets-target/2")
    tags = {key: value for key, value in run.data.tags.items() if key.startswith("headstart.")}
    gates = json.loads(tags.pop("headstart.change.gates"))
    assert [gate["name"] for gate in gates if gate["passed"]] == [
        "against_champion", "min_gain", "max_class_regression", "max_leaked", "lineage", "loads",
    ]  # fmt: skip
    assert tags == {
        "headstart.role": "promotion",
        "headstart.model_digest": version.tags[MODEL_DIGEST],
        "headstart.ledger": registry.get_model_version(MODEL, "1").run_id,
        "headstart.change.entry": "3",
        "headstart.change.kind": "promotion",
        "headstart.change.model": MODEL,
        "headstart.change.from": "1",
        "headstart.change.to": "2",
        "headstart.change.at": change.at,
        "headstart.change.by": "ana",
        "headstart.change.reason": "site B",
        "headstart.change.forced": "false",
        "headstart.look": "sha256:3",
    }
    assert change.at.endswith("+00:00")
    assert version.tags[PROMOTION] == f"champion since {change.at} by ana, run {change.run_id}"
    kept = json.loads(Path(registry.download_artifacts(change.run_id, "gates.json")).read_text())["gates"]
    assert "McNemar p" in kept[0]["text"]


def test_who_may_not_write_among_the_promotions_records_beside_the_model(registry, target, monkeypatch):
    own = registry.get_run(registry.get_model_version(MODEL, "1").run_id).info.experiment_id
    create = MlflowClient.create_run

    def guarded(self, experiment_id: str, *arguments, **named):
        if experiment_id != own:
            raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)
        return create(self, experiment_id, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", guarded)
    change = promote(registry, MODEL).change
    assert registry.get_run(change.run_id).info.experiment_id == own
    assert told(registry) == [(None, "1", "promotion")]


def test_who_promotes_is_known_without_a_name_on_the_machine(registry, target, monkeypatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000710000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert promote(registry, MODEL).change.by == f"uid {os.getuid()}"


@pytest.mark.parametrize("reason", ["x" * 1001, "\x1b[31mred", "a\x00b"])
def test_a_reason_that_the_record_cannot_hold_is_refused(registry, target, reason):
    with pytest.raises(InputError, match="--reason takes up to 1000 characters and no control characters"):
        promote(registry, MODEL, reason=reason)
    assert champion(registry) is None


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("cats", None, "The registry has no model 'cats'; its models are: pets-source, pets-target"),
        ("pets-source", None, "no models:/pets-source@challenger: no version waits to be promoted"),
        (MODEL, "7", "The registry has no models:/pets-target/7; its models are"),
    ],
)
def test_what_does_not_exist_cannot_be_promoted(registry, target, model, version, message):
    with pytest.raises(InputError, match=message):
        promote(registry, model, version=version)
    assert champion(registry) is None


@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_force_needs_a_reason(registry, target, reason):
    with pytest.raises(InputError, match="give --reason TEXT"):
        promote(registry, MODEL, force=True, reason=reason)
    assert champion(registry) is None


# Evidence and lineage


def closed(outcome) -> dict[str, str]:
    return {gate.name: gate.text for gate in outcome.refusals}


def test_what_a_source_was_trained_on_counts_as_a_leak_of_the_target(registry, add):
    # The source was trained on train-1, train-2 and val-1.
    ids = np.array(["train-1", *(f"{n:02}" for n in range(1, 60))])
    labels = np.arange(60) % 3
    tested = Predictions(ids, labels, np.eye(3)[labels], ("cat", "dog", "owl"))
    add(predictions=tested, trained_on=np.array(["other"]))
    outcome = promote(registry, MODEL)
    assert list(closed(outcome)) == ["max_leaked"]
    assert outcome.refusals[0].value == 1


@pytest.mark.parametrize(
    ("tags", "gap"),
    [
        ({SOURCE_DIGEST: "sha256:0"}, "models:/pets-source/1 is not the model that pets-target/2 came from"),
        ({SOURCE_MODEL: "models:/pets-source/9"}, "models:/pets-source/9, is not in the registry any more"),
        ({SOURCE_MODEL: ""}, "pets-target/2 names no source"),
        ({SOURCE_DIGEST: ""}, "does not name the content of its source"),
        ({DATA_DIGEST: "sha256:0"}, "is about other data than its tag"),
        ({MODEL_DIGEST: ""}, "pets-target/2 has no tag headstart.model_digest"),
        ({SOURCE_MODEL: "models:/pets-target/2"}, "is not the model that pets-target/2 came from"),
    ],
)
def test_a_gap_in_the_lineage_is_named(registry, add, tags, gap):
    add(tags=tags)
    outcome = promote(registry, MODEL)
    assert list(closed(outcome)) == ["lineage"]
    assert gap in closed(outcome)["lineage"]


def test_a_pinned_source_outside_the_registry_is_lineage_enough_unless_the_policy_refuses_what_is_not_known(
    registry, add
):
    add(tags={SOURCE_MODEL: "torchvision://vgg16/IMAGENET1K_V1", SOURCE_DIGEST: "sha256:5"})
    refused = promote(registry, MODEL, policy=Policy.of({"unknown_training_data": "refuse"}))
    assert set(closed(refused)) == {"max_leaked", "lineage"}
    assert "what torchvision://vgg16/IMAGENET1K_V1 learned from is not known" in closed(refused)["lineage"]
    outcome = promote(registry, MODEL)
    assert outcome.change
    assert {gate.name for gate in outcome.gates if gate.passed is None and gate.value is None} >= {
        "max_leaked", "lineage",
    }  # fmt: skip


def test_what_a_source_that_left_the_registry_was_trained_on_is_not_0(registry, add):
    add(tags={SOURCE_MODEL: "models:/pets-source/9"})
    (leaked,) = (gate for gate in promote(registry, MODEL).gates if gate.name == "max_leaked")
    assert (leaked.passed, leaked.value) == (None, None)
    assert "what models:/pets-source/9 learned from is not known" in leaked.text


def test_a_version_that_was_registered_by_hand_is_promoted_by_force_alone(registry, by_hand):
    by_hand()
    outcome = promote(registry, MODEL, version="2")
    assert {"lineage", "max_leaked", "min_gain"} <= set(closed(outcome))
    assert "pets-target/2 has no evidence" in closed(outcome)["lineage"]
    assert promote(registry, MODEL, version="2", reason="a test", force=True).change.forced


def test_a_champion_without_evidence_gives_way_to_force_alone(registry, by_hand):
    by_hand()
    registry.set_registered_model_alias(MODEL, "champion", "2")
    outcome = promote(registry, MODEL, version="1")
    assert closed(outcome)["against_champion"] == "not comparable with version 2: version 2 has no evidence"
    assert force(registry, "1").previous == "2"


# Whether the model can be used


def damage(file: Path, how: str) -> None:
    if how == "gone":
        shutil.rmtree(file.parent)
        return
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGES = [("gone", "cannot be fetched"), ("flipped", "model.safetensors is not the file that SHA256SUMS lists")]


@pytest.mark.parametrize(("how", "reason"), DAMAGES)
def test_a_version_whose_weights_are_gone_or_damaged_is_not_promoted(registry, add, weights, how, reason):
    damage(weights(add()), how)
    outcome = promote(registry, MODEL)
    assert list(closed(outcome)) == ["loads"]
    assert reason in closed(outcome)["loads"]
    assert champion(registry) is None


@pytest.mark.parametrize(("how", "reason"), DAMAGES)
def test_rollback_does_not_go_back_to_a_version_whose_weights_are_gone_or_damaged(
    registry, add, weights, by_hand, how, reason
):
    for version in (add(), by_hand()):
        force(registry, version)
    damage(weights("2"), how)
    with pytest.raises(InputError, match=rf"Version 2 .* cannot be used: .*{reason}.* Choose another"):
        rollback(registry, MODEL)
    assert champion(registry) == "3"


def test_a_model_that_was_exchanged_with_its_sums_is_not_the_one_that_was_registered(registry, add, weights, bundle):
    version = add()
    bundle(weights(version).parent, seed=99)
    assert closed(promote(registry, MODEL))["loads"] == "its content is not the one that was registered"


def test_a_version_that_predicts_no_numbers_is_not_promoted(registry, by_hand, tmp_path):
    folder = tmp_path / "by-hand" / "artifacts" / "bundle"
    diverged = ModelBundle.load(folder)
    with torch.no_grad():
        next(diverged.network.head.parameters()).fill_(torch.nan)
    shutil.rmtree(folder)
    diverged.save(folder)

    assert "The model's results are no numbers" in closed(promote(registry, MODEL, version=by_hand()))["loads"]


def test_force_overrides_what_does_not_load_and_says_so_in_the_record(registry, add, weights, by_hand):
    first = add()
    damage(weights(first), "gone")
    for version in (first, by_hand()):
        assert promote(registry, MODEL, version=version, reason="a test", force=True).change.forced
    with pytest.raises(InputError, match="give --reason TEXT"):
        rollback(registry, MODEL, force=True)
    change = rollback(registry, MODEL, force=True, reason="the store comes back tonight")
    assert (change.version, change.forced, champion(registry)) == (first, True, first)
    told_of = read_history(registry, MODEL).changes[-1]
    assert told_of == change
    assert [(gate["name"], gate["passed"]) for gate in told_of.gates] == [("loads", False)]


def test_a_champion_that_cannot_be_loaded_gives_way_to_what_need_not_be_compared_with_it(
    registry, add_judged_on, weights
):
    force(registry, add_judged_on("a"))
    damage(weights("2"), "gone")
    add_judged_on("b")
    assert "version 2 cannot be loaded" in closed(promote(registry, MODEL))["against_champion"]
    assert promote(registry, MODEL, policy=NO_COMPARISON).change


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "input_example.json of models:/pets-target/2 is damaged"),
        ('{"data": [["AAAA"]]}', "stored example cannot"),
    ],
)
def test_the_stored_example_is_what_is_predicted(registry, add, weights, content, reason):
    version = add()
    (weights(version).parents[2] / "input_example.json").write_text(content)
    assert reason in closed(promote(registry, MODEL))["loads"]


# Different test items: both are evaluated again


def picture(label: int, number: int) -> np.ndarray:
    """A stripe whose height says the class, on noise."""
    pixels = np.random.default_rng(100 * label + number).integers(0, 60, (16, 16), dtype=np.uint8)
    pixels[5 * label : 5 * label + 5] += 150
    return pixels


@pytest.fixture(scope="session")
def packed(once) -> Path:
    """Two packed data sets, `a` and `b`: the same pictures of three classes, split differently."""
    from PIL import Image

    def make(home: Path) -> None:
        for label, name in enumerate(("cat", "dog", "owl")):
            (home / "pictures" / name).mkdir(parents=True)
            for number in range(40):
                Image.fromarray(picture(label, number)).save(home / "pictures" / name / f"{number}.png")
        for seed, name in enumerate("ab"):
            shares = {"train": 0.5, "val": 0.1, "test": 0.4}
            prepare(Data.of({"uri": str(home / "pictures"), "size": 16, "split": shares}), home / name, seed=seed)

    return once("packed-pets", make)


def classifier(path: Path, dataset: Dataset, *, blind_to: int | None = None, seed: int = 0) -> Path:
    """A bundle that tells the classes apart by the means of its features, but for one that it never gives."""
    import torch

    torch.manual_seed(seed)
    network = convnet(classes=3, channels=1)
    bundle = ModelBundle(network, "convnet", "image", Preprocessing(16, 1, (0.3,), (0.3,)), ("cat", "dog", "owl"))
    train = dataset.split("train")
    features = torch.from_numpy(bundle.predict_features(train.samples))
    means = torch.stack([features[torch.from_numpy(train.labels == k)].mean(0) for k in range(3)])
    with torch.no_grad():
        network.head.weight.copy_(2 * means)
        network.head.bias.copy_(-means.square().sum(1))
        if blind_to is not None:
            network.head.bias[blind_to] = -1e4
    bundle.save(path)
    return path


@pytest.fixture
def add_judged_on(packed, add, tmp_path):
    """Registers a version that was trained and judged on one of the packed data sets."""

    def judged_on(name: str, *, blind_to: int | None = None, dataset: str | None = None) -> str:
        data = Dataset.open(packed / name)
        bundle_at = classifier(tmp_path / "new-bundle", data, blind_to=blind_to)
        test, train, val = (data.split(split) for split in ("test", "train", "val"))
        probabilities = ModelBundle.load(bundle_at).predict_probabilities(test.samples)
        digests = {**data.digests, "test_digest": data.split_digest("test")}
        return add(
            bundle_at=bundle_at,
            tags={DATA_DIGEST: data.digest},
            predictions=Predictions(test.ids, test.labels, probabilities, data.classes),
            trained_on=np.concatenate([train.ids, val.ids]),
            digests=digests,
            dataset=dataset or str(packed / name),
        )

    return judged_on


def test_models_that_were_judged_on_different_items_are_both_evaluated_on_the_challengers(
    registry, packed, add_judged_on
):
    force(registry, add_judged_on("a", blind_to=0))
    add_judged_on("b")
    outcome = promote(registry, MODEL)
    assert outcome.change, closed(outcome)
    gate = outcome.gates[0]
    # The champion gives no cat, which is a third of the items; those it was trained on do not count.
    trained_on = {*Dataset.open(packed / "a").split("train").ids, *Dataset.open(packed / "a").split("val").ids}
    test = Dataset.open(packed / "b").split("test").ids
    left_out = sum(each in trained_on for each in test)
    assert 0 < left_out < len(test)
    assert f"on {len(test) - left_out} items, {left_out} left out" in gate.text
    assert 0.05 < gate.value < 0.4


def test_models_that_are_evaluated_again_are_moved_to_the_device_that_trains(registry, add_judged_on, monkeypatch):
    moved = []
    monkeypatch.setattr(engine, "move_to_training_device", moved.append)
    force(registry, add_judged_on("a", blind_to=0))
    add_judged_on("b")
    assert promote(registry, MODEL).change
    assert len(moved) == 2


def test_a_worse_challenger_does_not_win_on_its_own_items(registry, add_judged_on):
    force(registry, add_judged_on("a"))
    add_judged_on("b", blind_to=1)
    outcome = promote(registry, MODEL)
    assert set(closed(outcome)) == {"against_champion", "max_class_regression"}
    assert "recall of 'dog' from 1.000 to 0.000" in closed(outcome)["max_class_regression"]


def test_a_test_set_that_is_not_there_is_asked_for_and_taken_from_where_it_is(registry, packed, add_judged_on):
    force(registry, add_judged_on("a", blind_to=0))
    add_judged_on("b", dataset="s3://scans/packed/b")
    outcome = promote(registry, MODEL)
    assert "not on this machine at s3://scans/packed/b; give it with --data DIR" in closed(outcome)["against_champion"]
    with pytest.raises(InputError, match="does not have the test split sha256:"):
        promote(registry, MODEL, data=packed / "a")
    with pytest.raises(InputError, match="is not a packed data set"):
        promote(registry, MODEL, data=packed / "pictures")
    assert promote(registry, MODEL, data=packed / "b").change


def test_a_test_set_whose_labels_were_changed_is_not_the_one(registry, packed, add_judged_on, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    force(registry, add_judged_on("a", blind_to=0))
    shutil.copytree(packed / "b", tmp_path / "b")
    index = pq.read_table(tmp_path / "b" / "index.parquet")
    labels = index["label"].to_pylist()
    row = index["split"].to_pylist().index("test")
    labels[row] = "dog" if labels[row] == "cat" else "cat"
    changed = index.set_column(index.column_names.index("label"), "label", pa.array(labels))
    pq.write_table(changed, tmp_path / "b" / "index.parquet")
    Dataset.open(tmp_path / "b").write_manifest()
    add_judged_on("b", dataset=str(tmp_path / "b"))
    outcome = promote(registry, MODEL)
    assert "does not have the test split" in closed(outcome)["against_champion"]


# Rollback


def test_rollback_walks_back_and_not_to_and_fro(registry, by_hand):
    for version in ("1", by_hand(), by_hand()):
        force(registry, version)
    change = rollback(registry, MODEL, reason="misses the new scanner")
    assert (change.version, change.previous, change.kind) == ("2", "3", "rollback")
    assert read_history(registry, MODEL).changes[-1] == change
    assert rollback(registry, MODEL).version == champion(registry) == "1"
    with pytest.raises(InputError, match="no earlier champion to go back to: version 1 is its first"):
        rollback(registry, MODEL)
    force(registry, "3")
    assert rollback(registry, MODEL).version == "1"


def test_rollback_takes_back_a_move_by_hand_to_the_last_recorded_champion(registry, by_hand):
    for version in ("1", by_hand()):
        force(registry, version)
    registry.set_registered_model_alias(MODEL, "champion", by_hand())
    assert rollback(registry, MODEL).version == "2"
    registry.delete_registered_model_alias(MODEL, "champion")
    assert rollback(registry, MODEL).version == "2"
    assert rollback(registry, MODEL).version == "1"


def test_a_version_that_follows_itself_is_not_gone_back_to(registry, target):
    force(registry, "1")
    registry.delete_registered_model_alias(MODEL, "champion")
    force(registry, "1")
    with pytest.raises(InputError, match="no earlier champion"):
        rollback(registry, MODEL)


def test_there_is_no_going_back_from_nowhere(registry, target):
    with pytest.raises(InputError, match="it never had one"):
        rollback(registry, MODEL)


def test_rollback_to_a_version_that_was_deleted_is_refused(registry, by_hand):
    for version in ("1", by_hand()):
        force(registry, version)
    registry.delete_model_version(MODEL, "1")
    with pytest.raises(InputError, match=r"Version 1 .* was deleted; choose another with `headstart promote"):
        rollback(registry, MODEL)
    assert champion(registry) == "2"


# History


def test_moves_by_hand_are_shown_between_and_after_the_recorded_ones(registry, by_hand):
    registry.set_registered_model_alias(MODEL, "champion", "1")
    assert told(registry) == [(None, "1", "outside")]
    force(registry, by_hand())
    registry.set_registered_model_alias(MODEL, "champion", "1")
    force(registry, by_hand())
    registry.set_registered_model_alias(MODEL, "champion", "2")
    history = read_history(registry, MODEL)
    assert told(registry) == [
        (None, "1", "outside"), ("1", "2", "promotion"), ("2", "1", "outside"), ("1", "3", "promotion"),
        ("3", "2", "outside"),
    ]  # fmt: skip
    for change in history.changes[::2]:
        assert (change.at, change.by, change.reason, change.run_id, change.gates) == (None, None, None, None, ())


@pytest.mark.parametrize("alias", ["went", "stayed, as in MLflow before 3.17"])
def test_a_champion_that_was_deleted_is_noticed_and_another_takes_its_place(alias, registry, by_hand):
    for version in ("1", by_hand()):
        force(registry, version)
    registry.delete_model_version(MODEL, "2")
    if alias != "went":
        with closing(sqlite3.connect(database.file_of(registry.tracking_uri))) as store, store:
            store.execute("INSERT OR REPLACE INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?)",
                          (MODEL, "champion", 2))  # fmt: skip
        assert str(registry.get_registered_model(MODEL).aliases["champion"]) == "2"

    last = read_history(registry, MODEL).changes[-1]
    assert (last.previous, last.version, last.kind, last.reason) == ("2", None, "outside", "version 2 was deleted")
    assert find_version(registry, f"models:/{MODEL}").version == registry.get_model_version(MODEL, "1").version
    force(registry, "1")
    assert read_history(registry, MODEL).changes[-2] == last
    assert champion(registry) == "1"


@pytest.mark.parametrize("gates", ["{", "3", "[3]", "null"])
def test_a_record_that_somebody_deleted_or_damaged_is_still_told(registry, by_hand, gates):
    change = force(registry, "1")
    registry.set_tag(change.run_id, "headstart.change.gates", gates)
    registry.set_tag(change.run_id, "headstart.change.entry", "first")
    registry.delete_run(change.run_id)
    force(registry, by_hand())
    assert told(registry) == [(None, "1", "promotion"), ("1", "2", "promotion")]


def test_a_model_that_never_had_a_champion_has_no_history(registry, target):
    assert told(registry) == []


def test_the_models_of_a_family_have_histories_of_their_own(registry, target):
    force(registry, "1")
    assert promote(registry, "pets-source", version="1").change
    assert [change.version for change in read_history(registry, "pets-source").changes] == ["1"]
    assert len(told(registry)) == 1


# Killed between any two calls, and others at the same time

WRITES = [
    "create_run", "log_dict", "set_registered_model_tag", "log_param", "set_registered_model_alias", "set_terminated",
    "set_model_version_tag",
]  # fmt: skip
# In a promotion: the run, its gates, the model's tag, the first entry, the alias, the second entry, the run's end, the
# version's tag.
STEPS = 8
ENTRY, ALIAS = 3, 4


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it happens."""


@pytest.fixture
def before_write(monkeypatch):
    """`before_write(n, act)` calls `act` right before the n-th write from now, once; the writes are counted."""
    state = {"count": 0, "at": None, "act": None}

    def watched(name: str):
        original = getattr(MlflowClient, name)

        def write(self, *arguments, **named):
            count, state["count"] = state["count"], state["count"] + 1
            if count == state["at"]:
                state["at"] = None
                state["act"]()
            return original(self, *arguments, **named)

        return write

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, watched(name))

    def arm(at: int | None, act: Callable[[], object] | None = None):
        state.update(count=0, at=at, act=act)
        return lambda: state["count"]

    return arm


def test_a_promotion_is_a_known_number_of_writes(registry, by_hand, before_write):
    by_hand()
    count = before_write(None)
    force(registry, "1")
    assert count() == STEPS


@pytest.mark.usefixtures("crowned")
@pytest.mark.parametrize("step", range(STEPS))
def test_a_promotion_that_was_killed_took_place_if_it_had_moved_the_alias(registry, by_hand, before_write, step):
    def kill() -> None:
        raise KilledError

    second = by_hand()
    before_write(step, kill)
    with pytest.raises(KilledError):
        force(registry, second)
    happened = [(None, "1", "promotion")] + ([("1", "2", "promotion")] if step > ALIAS else [])
    assert told(registry) == happened
    assert champion(registry) == happened[-1][1]
    # Whoever changes something next leaves no loose ends.
    third = by_hand()
    force(registry, third)
    assert told(registry) == [*happened, (happened[-1][1], "3", "promotion")]
    assert champion(registry) == "3"
    assert "RUNNING" not in records(registry)
    assert len(records(registry)["FINISHED"]) == len(happened) + 1
    assert rollback(registry, MODEL).version == happened[-1][1]


@pytest.mark.usefixtures("crowned")
@pytest.mark.parametrize("step", range(STEPS))
def test_the_killed_promotion_can_be_run_again(registry, add, before_write, step):
    def kill() -> None:
        raise KilledError

    add(right=59)
    before_write(step, kill)
    with pytest.raises(KilledError):
        promote(registry, MODEL)
    promote(registry, MODEL)
    assert told(registry) == [(None, "1", "promotion"), ("1", "2", "promotion")]
    assert champion(registry) == "2"


@pytest.mark.usefixtures("crowned")
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("other", ["promote", "rollback"])
def test_of_two_at_once_the_first_to_move_the_alias_wins_and_the_other_is_told(
    registry, by_hand, before_write, step, other
):
    force(registry, by_hand())
    mine, theirs = by_hand(), by_hand()
    before_write(step, lambda: force(registry, theirs) if other == "promote" else rollback(registry, MODEL))
    mine_first = step > ALIAS
    with nullcontext() if mine_first else pytest.raises(HeadstartError, match=r"Meanwhile .* did not"):
        force(registry, mine)
    theirs_change = ("promotion", theirs) if other == "promote" else ("rollback", "2" if mine_first else "1")
    expected = [("promotion", "1"), ("promotion", "2"), *([("promotion", mine)] if mine_first else []), theirs_change]
    happened = read_history(registry, MODEL).changes
    assert [(change.kind, change.version) for change in happened] == expected
    assert [change.previous for change in happened] == [None, *(change.version for change in happened[:-1])]
    assert champion(registry) == happened[-1].version
    assert "RUNNING" not in records(registry)


@pytest.mark.usefixtures("crowned")
@pytest.mark.parametrize("step", range(STEPS))
def test_a_move_by_hand_in_the_meantime_is_noticed_but_for_the_moment_before_the_alias_is_moved(
    registry, by_hand, before_write, step
):
    mine, theirs = by_hand(), by_hand()
    before_write(step, lambda: registry.set_registered_model_alias(MODEL, "champion", theirs))
    # The alias is read again right before the first entry.
    noticed = step < ENTRY
    with (
        pytest.raises(HeadstartError, match=f"Meanwhile version {theirs} became the champion")
        if noticed
        else nullcontext()
    ):
        force(registry, mine)
    overwritten = ENTRY <= step <= ALIAS
    assert champion(registry) == (mine if overwritten else theirs)
    expected = [(None, "1", "promotion")]
    expected += [] if noticed else [("1", mine, "promotion")]
    expected += [] if overwritten else [(expected[-1][1], theirs, "outside")]
    assert told(registry) == expected


def test_a_move_that_comes_too_late_is_taken_back(registry, by_hand, before_write):
    """The first stalls before it moves the alias; the second passes it over, and a third follows."""
    force(registry, "1")
    mine, second, third = by_hand(), by_hand(), by_hand()

    def overtake() -> None:
        force(registry, second)
        force(registry, third)

    before_write(ALIAS, overtake)
    with pytest.raises(HeadstartError, match=r"Meanwhile .* did not"):
        force(registry, mine)
    assert champion(registry) == third
    assert told(registry) == [(None, "1", "promotion"), ("1", second, "promotion"), (second, third, "promotion")]
    assert records(registry)["FAILED"] == [f"promotion {MODEL}/{mine}"]
