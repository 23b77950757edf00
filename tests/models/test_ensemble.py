"""An ensemble is a model as any other, whose probabilities are the mean of its members'."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities import modality
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.models.ensemble import ensemble, ensemble_name, renormalised
from headstart.storage.sums import write_sums

IMAGE = modality("image")
SAMPLES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), dtype=np.uint8)


@pytest.fixture
def members() -> list[ModelBundle]:
    def member(seed: int, temperature: float) -> ModelBundle:
        torch.manual_seed(seed)
        network = convnet(classes=3, channels=1).eval()
        return ModelBundle(
            network, "convnet", "image", Preprocessing(16, 1, (0.4,), (0.2,)), ("a", "b", "c"), temperature
        )

    return [member(0, 1.0), member(1, 0.1), member(2, 0.3)]


@pytest.fixture
def together(members) -> ModelBundle:
    network = ensemble([each.network for each in members], [each.temperature for each in members]).eval()
    return replace(members[0], network=network, architecture=ensemble_name(["convnet"] * 3), temperature=1.0)


def test_its_probabilities_are_the_mean_of_its_members_calibrated_ones(together, members):
    expected = np.mean([each.predict_probabilities(SAMPLES) for each in members], axis=0)
    assert together.predict_probabilities(SAMPLES) == pytest.approx(expected, abs=1e-6)


def test_its_bundle_is_read_back_by_the_name_of_its_architecture(together, tmp_path):
    together.save(tmp_path / "ensemble")
    found = ModelBundle.load(tmp_path / "ensemble")
    assert found.architecture == "ensemble/3/convnet"
    assert found.predict_probabilities(SAMPLES) == pytest.approx(together.predict_probabilities(SAMPLES), abs=1e-6)


def test_it_is_exported_as_one_file(together, tmp_path):
    pytest.importorskip("onnxruntime")
    from headstart.models.onnx import export

    assert export(together, tmp_path / "model.onnx", digest="sha256:1") < 1e-4


def test_members_that_normalise_their_input_in_their_own_way_are_averaged_as_they_are(members, tmp_path):
    members[1].preprocessing = Preprocessing(16, 1, (0.1,), (0.9,))
    members[2].preprocessing = IMAGE.plain(IMAGE.input(size=16, channels=1))
    inputs = [renormalised(members[0].preprocessing, each.preprocessing) for each in members]
    network = ensemble([each.network for each in members], [each.temperature for each in members], inputs).eval()
    together = replace(members[0], network=network, architecture=ensemble_name(["convnet"] * 3), temperature=1.0)
    expected = np.mean([each.predict_probabilities(SAMPLES) for each in members], axis=0)
    assert together.predict_probabilities(SAMPLES) == pytest.approx(expected, abs=1e-5)
    together.save(tmp_path / "ensemble")
    found = ModelBundle.load(tmp_path / "ensemble")
    assert found.predict_probabilities(SAMPLES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("other", [Preprocessing(32, 1, (0.4,), (0.2,)), Preprocessing(16, 1, (0.4,), (0.2,), "pad")])
def test_members_that_read_samples_differently_have_no_input_in_common(members, other):
    assert renormalised(members[0].preprocessing, other) is None


def test_an_ensemble_of_an_older_version_is_read_as_it_was(together, tmp_path):
    from safetensors.torch import load_file, save_file

    together.save(tmp_path / "ensemble")
    path = tmp_path / "ensemble" / "model.safetensors"
    state = {name: each for name, each in load_file(path).items() if ".inputs." not in name and "weights" not in name}
    assert len(state) < len(load_file(path))
    save_file(state, path)
    write_sums(tmp_path / "ensemble", ("model.json", "model.safetensors"))
    found = ModelBundle.load(tmp_path / "ensemble")
    assert found.predict_probabilities(SAMPLES) == pytest.approx(together.predict_probabilities(SAMPLES), abs=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "ensemble/1/convnet",
        "ensemble/x/convnet",
        "ensemble/2",
        "ensemble/2/ensemble/2/a",
        "ensemble/convnet+",
        f"ensemble/{'9' * 5000}/convnet",
        f"ensemble/{'+'.join(['convnet'] * 101)}",
    ],
)
def test_a_name_that_is_none_is_refused_with_the_form_that_it_should_have(name):
    with pytest.raises(InputError, match=r"ensemble/<2 to 100>/<architecture of its members>"):
        build_network(name, classes=2, channels=1)
