import numpy as np
import pytest
import torch

from headstart.config import Training
from headstart.errors import InputError
from headstart.transfer.pretraining import train_from_scratch

TRAINING = Training(epochs=2, batch_size=8)


def pretrained(dataset, architecture="convnet", **changes):
    return train_from_scratch(architecture, dataset, training=TRAINING, **{"role": "source", **changes})


def test_one_seed_gives_the_same_metrics_and_bundle_and_another_seed_does_not(known, tmp_path):
    outcomes = []
    for noise, seed in ((5, 1), (6, 1), (5, 2)):
        torch.manual_seed(noise)
        bundle, fitted, _ = pretrained(known, seed=seed)
        outcomes.append((fitted.history, bundle.save(tmp_path / "bundle"), bundle.network.state_dict()))
    (history, digest, state), (history_again, digest_again, _), (other, other_digest, other_state) = outcomes
    assert (history_again, digest_again) == (history, digest)
    assert other != history
    assert other_digest != digest
    assert not torch.equal(other_state["stages.0.0.weight"], state["stages.0.0.weight"])


def test_the_model_says_what_it_was_trained_on(known):
    bundle, fitted, _ = pretrained(known, seed=3)
    assert bundle.classes == known.classes
    expected = {"role": "source", "strategy": "pretraining", "source": None, "seed": 3, "head": "trained"}
    assert expected.items() <= bundle.provenance.items()
    assert bundle.provenance["data_digest"] == known.digest
    assert bundle.provenance["history"] == fitted.history


def test_input_is_normalised_by_the_training_split_alone(known):
    bundle, _, _ = pretrained(known)
    pixels = known.split("train").samples / 255
    assert bundle.preprocessing.mean == pytest.approx((np.mean(pixels),), abs=1e-5)
    assert bundle.preprocessing.std == pytest.approx((np.std(pixels),), abs=1e-5)


def test_the_network_may_read_another_size_and_other_channels_than_are_stored(known):
    bundle, _, _ = pretrained(known, size=24, channels=3)
    assert (bundle.preprocessing.size, bundle.preprocessing.channels) == (24, 3)
    assert bundle.network.stages[0][0].in_channels == 3
    assert bundle.predict_logits(known.split("test").samples).shape[1] == 3


def test_an_unknown_architecture_is_refused(known):
    with pytest.raises(InputError, match="convnett"):
        pretrained(known, "convnett")
