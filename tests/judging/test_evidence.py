import json
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.judging.evidence import Evidence, figures
from headstart.metrics.classification import classification_metrics
from headstart.metrics.counts import recalls
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, Metric
from headstart.metrics.predictions import Predictions
from headstart.storage.sums import verify_sums

CLASSES = ("cat", "`dog`|<b>", "owl\n")
LABELS = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]], dtype=np.float32)
MEASURED = classification_metrics(LABELS, PROBABILITIES, CLASSES)


@pytest.fixture
def evidence() -> Evidence:
    return Evidence(
        metric="macro_f1",
        figures=figures(MEASURED, "macro_f1", Interval(0.7, 0.6, 0.8), Interval(0.1, -0.05, 0.2)),
        sentence="no evidence: full gains +0.100 macro F1.",
        digests={"data_digest": "sha256:1", "train_digest": "sha256:2", "test_digest": "sha256:3"},
        dataset="s3://bucket/packed",
        predictions=Predictions(np.array(["a", "b", "c", "c"]), LABELS, PROBABILITIES, CLASSES),
        trained_on=np.array(["d", "e", "e"]),
        report="<!doctype html><p>gedämpft</p>",
    )


def test_evidence_comes_back_as_it_was_saved(evidence, tmp_path):
    evidence.save(tmp_path / "evidence")
    loaded = Evidence.load(tmp_path / "evidence")
    for field in fields(Evidence):
        ours, theirs = getattr(evidence, field.name), getattr(loaded, field.name)
        match field.name:
            case "predictions":
                assert ours.classes == theirs.classes
                for name in ("ids", "labels", "probabilities"):
                    assert np.array_equal(getattr(ours, name), getattr(theirs, name))
            case "trained_on":
                assert np.array_equal(ours, theirs)
            case _:
                assert ours == theirs, field.name


def test_saving_again_replaces_what_was_there(evidence, tmp_path):
    evidence.save(tmp_path / "evidence")
    replace(evidence, sentence="helped").save(tmp_path / "evidence")
    assert Evidence.load(tmp_path / "evidence").sentence == "helped"
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


def test_a_model_that_was_trained_on_nothing_has_evidence_too(evidence, tmp_path):
    replace(evidence, trained_on=np.array([], dtype=str)).save(tmp_path / "evidence")
    assert Evidence.load(tmp_path / "evidence").trained_on.tolist() == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *product(
            ["evidence.json", "predictions.parquet", "training.parquet"], ["removed", "emptied", "cut", "garbage"]
        ),
        *product(["report.html"], ["removed", "garbage"]),
    ],
)
@pytest.mark.parametrize("sums", [True, False])
def test_a_damaged_file_is_one_sentence(evidence, tmp_path, name, damage, sums):
    evidence.save(tmp_path / "evidence")
    if not sums:
        (tmp_path / "evidence" / "SHA256SUMS").unlink()
    file = tmp_path / "evidence" / name
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes({"emptied": b"", "cut": content[: len(content) // 2], "garbage": b"\xff\x00" * 50}[damage])
    with pytest.raises(InputError, match=r"evidence.*; (register|evaluate) the model again\.|evaluate the model first"):
        Evidence.load(tmp_path / "evidence")


@pytest.mark.parametrize("name", ["evidence.json", "predictions.parquet", "training.parquet", "report.html"])
def test_one_changed_digit_of_the_evidence_is_found(evidence, tmp_path, name):
    evidence.save(tmp_path / "evidence")
    file = tmp_path / "evidence" / name
    content = bytearray(file.read_bytes())
    place = content.index(b"0.") + 2 if name == "evidence.json" else len(content) // 2
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is not the file that SHA256SUMS lists.*; register the model again"):
        Evidence.load(tmp_path / "evidence")


def test_evidence_of_before_there_were_sums_is_read(evidence, tmp_path):
    evidence.save(tmp_path / "evidence")
    (tmp_path / "evidence" / "SHA256SUMS").unlink()
    assert Evidence.load(tmp_path / "evidence").figures == evidence.figures


@pytest.mark.parametrize("change", [{"figures": [1]}, {"figures": {"test/accuracy": "high"}}, {"digests": None}])
def test_facts_of_other_types_are_refused(evidence, tmp_path, change):
    evidence.save(tmp_path / "evidence")
    file = tmp_path / "evidence" / "evidence.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (tmp_path / "evidence" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="does not hold the evidence for a model"):
        Evidence.load(tmp_path / "evidence")


def test_another_format_is_refused_by_its_number(evidence, tmp_path):
    evidence.save(tmp_path / "evidence")
    file = tmp_path / "evidence" / "evidence.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(InputError, match="format 9, not 1; read it with the version that wrote it"):
        Evidence.load(tmp_path / "evidence")


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="does not hold the evidence"):
        Evidence.load(tmp_path)


def test_figures_have_the_names_of_the_record():
    names = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")
    bounds = {"test/macro_f1_low": 0.6, "test/macro_f1_high": 0.8}
    found = figures(MEASURED, "macro_f1", Interval(MEASURED["macro_f1"], 0.6, 0.8))
    assert found == {f"test/{name}": MEASURED[name] for name in names} | bounds


def test_a_metric_that_is_added_is_recorded_too(add_member):
    add_member(METRICS, "worst_recall", Metric("worst recall", lambda counts: recalls(counts).min(axis=-1)))
    measured = classification_metrics(LABELS, PROBABILITIES, CLASSES)
    assert figures(measured, "accuracy", Interval(0.75, 0.5, 0.9))["test/worst_recall"] == 0.5


def test_a_gain_has_its_interval_beside_it(evidence):
    gains = {name: value for name, value in evidence.figures.items() if name.startswith("gain/")}
    assert gains == {"gain/macro_f1": 0.1, "gain/macro_f1_low": -0.05, "gain/macro_f1_high": 0.2}


def test_features_come_back_and_damaged_ones_are_refused(evidence, tmp_path):
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    replace(evidence, features=features).save(tmp_path / "evidence")

    assert np.array_equal(Evidence.load(tmp_path / "evidence").features, features)
    np.save(tmp_path / "evidence" / "features.npy", features + 1)
    with pytest.raises(InputError, match=r"features\.npy is damaged"):
        Evidence.load(tmp_path / "evidence")


def test_versions_before_features_were_kept_verify_the_files_that_they_know(evidence, tmp_path):
    replace(evidence, features=np.zeros((4, 2), dtype=np.float32)).save(tmp_path / "evidence")

    verify_sums(tmp_path / "evidence", ("evidence.json", "predictions.parquet", "training.parquet", "report.html"))
