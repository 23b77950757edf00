import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.features.heads import nearest_class_mean
from headstart.judging.evidence import Evidence
from headstart.judging.learned import LEARNED, accuracy_at
from headstart.judging.source_evaluation import evaluate_source
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle


@pytest.fixture(scope="module")
def headless(dataset) -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        network=convnet(classes=0, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, size=16, channels=1),
        classes=(),
        provenance={"role": "source", "objective": "vicreg", "head": "none"},
    )


def test_a_source_without_a_head_is_judged_by_one_that_is_fitted_to_its_features_for_that(dataset, headless):
    found = evaluate_source(headless, dataset, experiment="digits", address="there")
    test = dataset.split("test")
    assert found.sentence.startswith("A linear head on the source's features reaches ")
    predicted = found.predictions.probabilities.argmax(1)
    assert found.figures["test/accuracy"] == accuracy_score(test.labels, predicted) > 0.5
    assert found.predictions.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert found.predictions.classes == dataset.classes
    assert headless.network.head.weight.shape[0] == 0
    assert "vicreg, without labels" in found.report
    assert "Figures on the test split" in found.report


def test_a_source_that_is_no_better_than_a_guess_is_said_to_be_so_and_a_better_one_is_not(dataset, headless, caplog):
    assert "learned" not in evaluate_source(headless, dataset, experiment="digits", address="there").sentence
    network = convnet(classes=len(dataset.classes), channels=1).eval()
    with torch.no_grad():
        network.head.weight.zero_()
    constant = replace(headless, network=network, classes=dataset.classes)
    found = evaluate_source(constant, dataset, experiment="digits", address="there")
    test = dataset.split("test").labels
    share = np.bincount(test).max() / len(test)
    assert f"The test's majority class has {share:.3f}, so nothing shows that it has learned" in found.sentence
    assert "source.pretraining.epochs" in caplog.text


def test_a_source_whose_epochs_ran_out_before_it_had_learned_its_samples_is_said_to_be_so(dataset, headless, caplog):
    train, classes = dataset.split("train"), len(dataset.classes)
    network = copy.deepcopy(headless.network)
    nearest_class_mean(headless.predict_features(train.samples), train.labels, classes).install(network)

    def sentence(epochs: int) -> str:
        provenance = {**headless.provenance, "history": [{"epoch": epochs}], "kept_epoch": 3}
        source = replace(headless, network=network, classes=dataset.classes, provenance=provenance)
        return evaluate_source(source, dataset, experiment="digits", address="there").sentence

    source = replace(headless, network=network, classes=dataset.classes)
    reached = accuracy_at(source, dataset, np.arange(len(train.ids)))
    assert 0.5 < reached < LEARNED
    assert f"had learned only {reached:.0%} of its own training samples" in sentence(3)
    assert "source.pretraining.epochs" in caplog.text
    # It had time to become better, and did not.
    assert "learned" not in sentence(20)


def test_of_a_source_whose_data_has_no_labels_nothing_is_claimed(dataset, headless, tmp_path):
    pictures, shares = str(dataset.path.parent / "pictures"), {"train": 0.4, "val": 0.2, "test": 0.4}
    data = Data.of({"uri": pictures, "size": 16, "split": shares, "labels": "none"})
    unlabelled = prepare(data, tmp_path / "packed")
    found = evaluate_source(headless, unlabelled, experiment="digits", address="there")
    assert found.figures == {}
    assert found.sentence == "The source's own data has no labels: what it is worth shows on a target."
    assert found.sentence.replace("'", "&#39;") in found.report
    assert "Figures on the test split" not in found.report
    assert "none, its samples have no labels" in found.report
    assert found.digests["test_digest"] == unlabelled.split_digest("test")
    found.save(tmp_path / "evidence")
    kept = Evidence.load(tmp_path / "evidence")
    assert kept.predictions.ids.tolist() == unlabelled.split("test").ids.tolist()
    seen = {*unlabelled.split("train").ids, *unlabelled.split("val").ids}
    assert set(kept.trained_on.tolist()) == seen
