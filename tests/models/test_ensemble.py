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


@pytest.fixture
def on_one_trunk(members, tmp_path) -> ModelBundle:
    """Two heads on the same stages and a network of its own, read back."""
    first, second, _ = members
    second.network.stages.load_state_dict(first.network.stages.state_dict())
    network = ensemble([each.network for each in members], [each.temperature for each in members]).eval()
    bundle = replace(first, network=network, architecture=ensemble_name(["convnet"] * 3), temperature=1.0)
    bundle.save(tmp_path / "on_one_trunk")
    return ModelBundle.load(tmp_path / "on_one_trunk")


def passes_of(bundle: ModelBundle) -> list[int]:
    """The numbers of the members whose stages compute something from now on."""
    passes = []
    for number, each in enumerate(bundle.network.stages[0].networks):
        each.stages[0].register_forward_hook(lambda *_, number=number: passes.append(number))
    return passes


def test_members_with_equal_stages_compute_them_once_and_answer_as_before(on_one_trunk, members):
    passes = passes_of(on_one_trunk)
    expected = np.mean([each.predict_probabilities(SAMPLES) for each in members], axis=0)

    assert on_one_trunk.predict_probabilities(SAMPLES) == pytest.approx(expected, abs=1e-6)
    assert passes == [0, 2]


def test_members_on_one_trunk_are_saved_and_read_as_others_and_exported_with_one_trunk(on_one_trunk, members, tmp_path):
    pytest.importorskip("onnxruntime")
    from headstart.models.onnx import export

    on_one_trunk.save(tmp_path / "again")
    again = ModelBundle.load(tmp_path / "again")
    assert np.array_equal(again.predict_probabilities(SAMPLES), on_one_trunk.predict_probabilities(SAMPLES))
    assert export(on_one_trunk, tmp_path / "model.onnx", digest="sha256:1") < 1e-4
    weights = sum(parameter.numel() for parameter in members[0].network.parameters())
    assert 2 < (tmp_path / "model.onnx").stat().st_size / (4 * weights) < 2.5


def test_members_on_one_trunk_each_train_their_own(on_one_trunk):
    network, passes = on_one_trunk.network, passes_of(on_one_trunk)
    network.train()
    # As a checkpoint is read.
    network.load_state_dict(network.state_dict())

    network(torch.rand(2, 1, 16, 16)).sum().backward()

    assert passes == [0, 1, 2]
    assert all(parameter.grad is not None for each in network.stages[0].networks for parameter in each.parameters())


@pytest.mark.parametrize("change", ["another state", "training"])
def test_members_on_one_trunk_that_may_differ_compute_each_their_own_again(on_one_trunk, change):
    network, passes = on_one_trunk.network, passes_of(on_one_trunk)
    if change == "training":
        network.train()
        with torch.no_grad():
            next(network.stages[0].networks[1].parameters()).mul_(2)
    else:
        state = network.state_dict()
        first = next(name for name in state if ".networks.1.stages." in name)
        network.load_state_dict({**state, first: 2 * state[first]})
    network.eval()
    before = on_one_trunk.predict_probabilities(SAMPLES)
    assert passes == [0, 1, 2]
    network.load_state_dict(network.state_dict())
    assert np.array_equal(on_one_trunk.predict_probabilities(SAMPLES), before)


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
