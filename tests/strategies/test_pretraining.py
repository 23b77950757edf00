from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.data.labelled import LabelledDataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from headstart_pipelines.demo import digits, write_folder


def pretrained(dataset, architecture="convnet", seed=0):
    section = Pretraining.of({"architecture": architecture, "epochs": 2, "batch_size": 8})
    return pretrain(section, dataset, RunContext(seed))


def test_one_seed_gives_the_same_metrics_and_bundle_and_another_seed_does_not(known, tmp_path):
    outcomes = []
    for noise, seed in ((5, 1), (6, 1), (5, 2)):
        torch.manual_seed(noise)
        trained = pretrained(known, seed=seed)
        bundle = trained.bundle
        outcomes.append((trained.history, bundle.save(tmp_path / "bundle"), bundle.network.state_dict()))
    (history, digest, state), (history_again, digest_again, _), (other, other_digest, other_state) = outcomes
    assert (history_again, digest_again) == (history, digest)
    assert other != history
    assert other_digest != digest
    assert not torch.equal(other_state["stages.0.0.weight"], state["stages.0.0.weight"])


def test_the_model_says_what_it_was_trained_on(known):
    fitted = pretrained(known, seed=3)
    bundle = fitted.bundle
    assert bundle.classes == known.classes
    expected = {"role": "source", "strategy": "pretraining", "source": None, "seed": 3, "head": "trained"}
    assert expected.items() <= bundle.provenance.items()
    assert bundle.provenance["data_digest"] == known.digest
    assert bundle.provenance["history"] == fitted.history
    assert bundle.provenance["kept_epoch"] == fitted.best_epoch


def test_a_training_goes_on_from_the_weights_of_its_start_and_says_whose_they_are(known):
    start = pretrained(known, seed=3).bundle
    before = {name: tensor.clone() for name, tensor in start.network.state_dict().items()}
    section = Pretraining.of({"start": "models:/first/1#sha256=abc", "epochs": 1, "learning_rate": 1e-6})

    bundle = pretrain(section, known, RunContext(1), start=start).bundle

    after = bundle.network.state_dict()
    assert torch.allclose(after["stages.0.0.weight"], before["stages.0.0.weight"], atol=1e-4)
    assert not torch.equal(after["stages.0.0.weight"], before["stages.0.0.weight"])
    assert (bundle.provenance["source"], bundle.provenance["source_digest"]) == (section.start, "sha256:abc")
    assert (bundle.provenance["seed"], bundle.provenance["role"]) == (1, "source")


def test_without_labels_a_start_loses_its_head(known, tmp_path):
    section = Pretraining.of({"start": "first", "objective": "vicreg", "epochs": 1, "batch_size": 8})

    start = pretrained(known).bundle
    # Nor does what answered with a number do so without a head.
    start.network.measure(offset=1.0, scale=2.0)
    bundle = pretrain(section, known, RunContext(), start=start).bundle
    # One that has no head is a start as well.
    bundle.save(tmp_path / "headless")
    bundle = pretrain(section, known, RunContext(), start=ModelBundle.load(tmp_path / "headless")).bundle

    assert bundle.classes == ()
    assert (bundle.provenance["objective"], bundle.provenance["head"]) == ("vicreg", "none")


def test_a_start_of_another_modality_and_an_architecture_beside_a_start_are_refused(known):
    start = pretrained(known).bundle
    start.modality = "audio"

    with pytest.raises(InputError, match="start reads audio data, and the source is image; choose another start"):
        pretrain(Pretraining.of({"start": "first"}), known, RunContext(), start=start)
    with pytest.raises(InputError, match="architecture has no meaning with start, whose own it is; remove one of them"):
        Pretraining.of({"start": "first", "architecture": "resnet18"})


def test_input_is_normalised_by_the_training_split_alone(known):
    bundle = pretrained(known).bundle
    pixels = known.split("train").samples / 255
    assert bundle.preprocessing.mean == pytest.approx((np.mean(pixels),), abs=1e-5)
    assert bundle.preprocessing.std == pytest.approx((np.std(pixels),), abs=1e-5)


def test_the_network_may_read_another_size_and_other_channels_than_are_stored(known):
    bundle = (
        BASELINES["scratch"]
        .fit(Like("convnet", {"size": 24, "channels": 3}), known, Training(epochs=1), RunContext())
        .bundle
    )
    assert (bundle.preprocessing.size, bundle.preprocessing.channels) == (24, 3)
    assert bundle.network.stages[0][0].in_channels == 3
    assert bundle.predict_logits(known.split("test").samples).shape[1] == 3


def test_an_architecture_that_does_not_read_samples_of_this_size_is_refused_in_a_sentence(known, capfd):
    with pytest.raises(InputError, match=r"does not read samples of 16 × 16, grey .*; give them another size"):
        pretrained(known, "timm/vit_tiny_patch16_224")
    assert capfd.readouterr().err == ""


def test_an_unknown_architecture_is_refused(known):
    with pytest.raises(InputError, match="convnett"):
        pretrained(known, "convnett")


# A source without labels


@pytest.fixture(scope="module")
def nameless(tmp_path_factory) -> Dataset:
    """200 digits in one folder, which says nothing about them."""
    images, _ = digits()
    root = tmp_path_factory.mktemp("nameless")
    write_folder(images[:200], np.full(200, "pictures"), root)
    split = {"train": 0.6, "val": 0.2, "test": 0.2}
    return prepare(
        Data.of({"uri": str(root / "pictures"), "size": 16, "split": split}), root / "packed", labels="optional"
    )


@pytest.fixture(scope="module")
def unlabelled_source(nameless, tmp_path_factory) -> Path:
    """The bundle of a convnet that was pretrained on them."""
    path = tmp_path_factory.mktemp("unlabelled-source") / "bundle"
    bundle = pretrain(VIEWS, nameless, RunContext()).bundle
    bundle.save(path)
    return path


VIEWS = Pretraining.of(
    {"objective": "vicreg", "epochs": 3, "batch_size": 32, "precision": "fp32", "layout": "contiguous"}
)


def test_a_source_without_labels_has_features_and_no_classes_and_says_so(nameless, unlabelled_source):
    bundle = ModelBundle.load(unlabelled_source)
    assert bundle.classes == ()
    assert bundle.predict_features(nameless.split("test").samples).std(axis=0).max() > 0
    expected = {"role": "source", "strategy": "pretraining", "objective": "vicreg", "head": "none", "source": None}
    assert expected.items() <= bundle.provenance.items()
    assert [set(entry) for entry in bundle.provenance["history"]] == [{"epoch", "train/loss", "val/loss"}] * 3


def test_one_seed_gives_the_same_source_without_labels(nameless, unlabelled_source, tmp_path):
    bundle = pretrain(VIEWS, nameless, RunContext()).bundle
    assert bundle.save(tmp_path / "bundle") == bundle_digest(unlabelled_source)


def test_its_plan_has_views_and_no_end_before_the_last_epoch(nameless):
    section = Pretraining.of({"objective": "vicreg", "epochs": 1, "precision": "fp32", "layout": "contiguous"})
    params = pretrain(section, nameless, RunContext()).params
    expected = {"augmentation": "views", "batch_size": 64, "patience": 1, "balance": False}
    assert expected.items() <= params.items()


def test_labels_that_are_not_there_cannot_be_learned(nameless):
    with pytest.raises(InputError, match=r"pictures has no class folders.*<class>/<file>.*objective vicreg"):
        pretrain(Pretraining.of({"epochs": 1}), nameless, RunContext())


@pytest.mark.parametrize("strategy", ["zero", "linear_probe", "full"])
def test_a_target_learns_from_a_source_without_labels(strategy, unlabelled_source, known, carry):
    result = carry(ModelBundle.load(unlabelled_source), known, strategy, epochs=4)
    assert result.bundle.classes == known.classes
    test = known.split("test")
    accuracy = np.mean(result.bundle.predict_logits(test.samples).argmax(1) == test.labels)
    assert accuracy > 1.5 / len(known.classes)


def test_a_zero_transfer_of_a_source_without_labels_is_its_nearest_class_mean(unlabelled_source, known, carry):
    source = ModelBundle.load(unlabelled_source)
    # It learns from all labels, those of the validation split too.
    labelled, test = LabelledDataset(known).split("train"), known.split("test")
    features, means = source.predict_features(labelled.samples), []
    for label in range(len(known.classes)):
        means.append(features[labelled.labels == label].mean(axis=0))
    distances = np.linalg.norm(source.predict_features(test.samples)[:, None] - np.array(means)[None], axis=2)
    found = carry(source, known, "zero").bundle.predict_logits(test.samples)
    assert found.argmax(1).tolist() == distances.argmin(1).tolist()
