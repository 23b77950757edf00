import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.judging.kept_predictions import kept, kept_features_of, kept_predictions_of
from headstart.judging.robustness import predict_corrupted
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.network import linear_head
from headstart.storage.state import State
from headstart.training.trained import predictions_of


@pytest.fixture
def model(contenders):
    path = contenders["zero"].path
    return ModelBundle.load(path), path


@pytest.fixture
def state(tmp_path):
    return State(str(tmp_path / "state"))


def kept_files(state):
    return [path for path in (state.folder / "predictions").rglob("*") if path.is_file()]


def test_a_model_that_was_judged_before_is_not_run_again_and_predicts_the_same(model, dataset, state, monkeypatch):
    bundle, path = model
    first = kept_predictions_of(bundle, path, dataset, state)
    expected = predictions_of(bundle, dataset.split("test"))
    monkeypatch.setattr(ModelBundle, "outputs_of", None)
    again = kept_predictions_of(bundle, path, dataset, state)
    for found in (first, again):
        assert np.array_equal(found.probabilities, expected.probabilities)
        assert (found.ids.tolist(), found.labels.tolist()) == (expected.ids.tolist(), expected.labels.tolist())
        assert found.groups.tolist() == expected.groups.tolist()


def test_another_model_or_other_code_predicts_anew(model, contenders, dataset, state, monkeypatch):
    other = contenders["scratch"].path
    kept_predictions_of(*model, dataset, state)
    found = kept_predictions_of(ModelBundle.load(other), other, dataset, state)
    assert not np.array_equal(found.probabilities, kept_predictions_of(*model, dataset, state).probabilities)
    monkeypatch.setenv("HEADSTART_CODE", "other")
    kept_predictions_of(*model, dataset, state)
    # Three of predictions, and two of features, as the two models share their stages.
    assert len(kept_files(state)) == 3 + 2


def test_models_that_share_their_stages_share_one_pass_and_each_predicts_to_the_bit_as_alone(
    model, dataset, state, monkeypatch
):
    bundle, path = model
    head = linear_head(bundle.network.feature_dim, len(bundle.classes), torch.Generator().manual_seed(1))
    network = copy.deepcopy(bundle.network)
    network.head = head
    other = replace(bundle, network=network, temperature=2.0)
    expected = predictions_of(other, dataset.split("test"))
    other.save(state.folder / "other")

    kept_predictions_of(bundle, path, dataset, state)
    monkeypatch.setattr(ModelBundle, "predict_features", None)
    found = kept_predictions_of(other, state.folder / "other", dataset, state)

    assert np.array_equal(found.probabilities, expected.probabilities)


def test_features_of_other_stages_rows_or_splits_are_others(model, dataset, state):
    bundle, _ = model
    changed = replace(bundle, network=copy.deepcopy(bundle.network))
    next(changed.network.stages[0].parameters()).data *= 1.5
    rows = np.array([3, 1])
    for each in (bundle, changed):
        for name in ("test", "train"):
            samples = dataset.split(name).samples
            whole = kept_features_of(each, dataset, state, name=name)
            assert np.array_equal(whole, each.predict_features(samples))
            part = kept_features_of(each, dataset, state, name=name, rows=rows)
            assert np.array_equal(part, each.predict_features(samples[rows]))
    assert len(kept_files(state)) == 2 * 2 * 2


def test_what_is_kept_of_corrupted_forms_is_that_of_the_same_samples_alone(model, dataset, state, monkeypatch):
    bundle, path = model
    samples = dataset.split("test").samples

    def found(*rows: int) -> np.ndarray:
        what = {"model": bundle_digest(path), "corrupted": rows}
        return kept(what, dataset, lambda: predict_corrupted(bundle, samples[list(rows)]), state)

    first, other = found(0, 1, 2), found(3, 4)
    assert first.shape == (1 + 3 * len(dataset.kind.corruptions), 3)
    assert other.shape[1] == 2
    monkeypatch.setattr(ModelBundle, "predict_logits", None)
    assert np.array_equal(found(0, 1, 2), first)


def test_damaged_predictions_are_computed_again(model, dataset, state, caplog):
    expected = kept_predictions_of(*model, dataset, state)
    for file in kept_files(state):
        content = bytearray(file.read_bytes())
        content[-200] ^= 1
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = kept_predictions_of(*model, dataset, state)
    assert np.array_equal(found.probabilities, expected.probabilities)
    assert "is damaged" in caplog.text


def test_where_nothing_can_be_kept_models_are_run(model, dataset, state, caplog):
    (state.folder / "predictions").write_text("not a folder")
    found = kept_predictions_of(*model, dataset, state)
    assert np.array_equal(found.probabilities, kept_predictions_of(*model, dataset, None).probabilities)
    assert "cannot be kept" in caplog.text
