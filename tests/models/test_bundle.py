import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, bundle_digest

SAMPLES = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 1), dtype=np.uint8)


def make_bundle(seed: int = 0) -> ModelBundle:
    torch.manual_seed(seed)
    return ModelBundle(
        network=convnet(classes=3, channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing(size=16, channels=1, mean=(0.4,), std=(0.2,)),
        classes=("cat", "dog", "owl"),
        temperature=1.5,
        provenance={"role": "source", "seed": seed, "head": "trained"},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "saved"
    make_bundle().save(path)
    return path


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved bundle, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def seal(path: Path) -> None:
    """Writes SHA256SUMS anew: what somebody would do who changes a bundle on purpose."""
    names = ("model.json", "model.safetensors")
    lines = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (path / "SHA256SUMS").write_text("".join(lines))


def change_description(path: Path, **changes: object) -> None:
    description = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**description, **changes}))
    seal(path)


def test_a_loaded_bundle_is_the_saved_one(saved):
    original, loaded = make_bundle(), ModelBundle.load(saved)
    assert np.array_equal(loaded.predict_logits(SAMPLES), original.predict_logits(SAMPLES))
    for name in ("architecture", "modality", "preprocessing", "classes", "temperature", "provenance"):
        assert getattr(loaded, name) == getattr(original, name)


def test_equal_content_gives_equal_digests_and_other_content_another(saved, tmp_path):
    assert make_bundle().save(tmp_path / "again") == bundle_digest(saved)
    assert make_bundle(seed=1).save(tmp_path / "other") != bundle_digest(saved)


def test_saving_replaces_what_stood_there(bundle):
    (bundle / "stale").touch()
    digest = make_bundle(seed=1).save(bundle)
    assert sorted(file.name for file in bundle.iterdir()) == ["SHA256SUMS", "model.json", "model.safetensors"]
    assert bundle_digest(bundle) == digest


def test_others_can_read_a_saved_bundle_as_the_umask_allows(saved):
    modes = {file.stat().st_mode & 0o777 for file in saved.iterdir()}
    assert len(modes) == 1


def test_loading_leaves_the_random_state_as_it_was(saved):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ModelBundle.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_flipped_byte_in_the_weights_is_found(bundle):
    content = bytearray((bundle / "model.safetensors").read_bytes())
    content[-100] ^= 1
    (bundle / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors.*damaged"):
        ModelBundle.load(bundle)


def test_one_changed_letter_in_the_description_is_found(bundle):
    file = bundle / "model.json"
    file.write_text(file.read_text().replace("owl", "oil"))
    with pytest.raises(InputError, match=r"model\.json.*damaged"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize("kept", [0, 1, 4, 100, 5000])
def test_truncated_weights_are_refused_even_if_their_sum_is_right(bundle, kept):
    file = bundle / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    seal(bundle)
    with pytest.raises(InputError, match=r"model\.safetensors is not a whole safetensors file"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize("first", [b"\x80", b"PK"])
def test_weights_load_whatever_the_length_of_their_header_begins_with(bundle, first):
    file = bundle / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    wanted = next(n for n in range(length, length + 2**16, 8) if n.to_bytes(8, "little").startswith(first))
    header = content[8 : 8 + length] + b" " * (wanted - length)
    file.write_bytes(wanted.to_bytes(8, "little") + header + content[8 + length :])
    seal(bundle)
    assert np.array_equal(ModelBundle.load(bundle).predict_logits(SAMPLES), make_bundle().predict_logits(SAMPLES))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_named_as_weights_is_refused_and_not_run(bundle, tmp_path, legacy):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"weight": Trap()}, bundle / "model.safetensors", _use_new_zipfile_serialization=not legacy)
    seal(bundle)
    with pytest.raises(InputError, match=r"model\.safetensors is a pickle"):
        ModelBundle.load(bundle)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "SHA256SUMS"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        ModelBundle.load(bundle)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a model bundle"):
        ModelBundle.load(tmp_path / "nowhere")


def test_a_tensor_too_many_or_too_few_is_named(bundle):
    weights = bundle / "model.safetensors"
    state = load_file(weights)
    save_file({**state, "backdoor.weight": torch.zeros(1)}, weights)
    seal(bundle)
    with pytest.raises(InputError, match=r"backdoor\.weight"):
        ModelBundle.load(bundle)
    del state["head.bias"]
    save_file(state, weights)
    seal(bundle)
    with pytest.raises(InputError, match=r"head\.bias"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../model.json"])
def test_sums_that_list_a_path_elsewhere_are_refused(bundle, name):
    outside = bundle.parent / "outside"
    outside.write_text("x")
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{hashlib.sha256(b'x').hexdigest()}  {name}\n")
    with pytest.raises(InputError, match="nothing else"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"not a list of sums\n"])
def test_unreadable_sums_are_refused(bundle, content):
    (bundle / "SHA256SUMS").write_bytes(content)
    with pytest.raises(InputError, match="SHA256SUMS"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "convnt"}, "convnet"),
        ({"architecture": 7}, "architecture"),
        ({"classes": ["cat", "dog"]}, r"does not fit.*head\.weight"),
        ({"classes": [1, 2, 3]}, "classes"),
        ({"preprocessing": {"size": 16}}, "preprocessing"),
        ({"preprocessing": {"size": 10**6, "channels": 1, "mean": [0], "std": [1]}}, "size of 1 to 2048"),
        ({"preprocessing": {"size": float("inf"), "channels": 1, "mean": [0], "std": [1]}}, "preprocessing"),
        ({"classes": [str(number) for number in range(10**6)]}, "does not fit the 1000000 classes"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "1.0"}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"format_version": 1}, "format 2"),
        ({"format_version": 99}, "format 2"),
        ({"provenance": None}, "provenance"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(bundle, changes, message):
    change_description(bundle, **changes)
    with pytest.raises(InputError, match=message):
        ModelBundle.load(bundle)


def test_weights_of_another_architecture_are_refused(bundle):
    change_description(bundle, architecture="mobilenet_v3_small")
    with pytest.raises(InputError, match="does not fit the architecture 'mobilenet_v3_small'"):
        ModelBundle.load(bundle)


@pytest.mark.parametrize("content", ["[]", "{", "\x00", "[" * 100_000, f'{{"classes": {"9" * 5000}}}'])
def test_a_description_that_is_no_json_object_is_refused(bundle, content):
    (bundle / "model.json").write_text(content)
    seal(bundle)
    with pytest.raises(InputError, match=r"model\.json"):
        ModelBundle.load(bundle)


def test_predictions_do_not_depend_on_the_batch_size_nor_change_the_network():
    bundle = make_bundle()
    bundle.network.train()
    before = {name: value.clone() for name, value in bundle.network.state_dict().items()}
    logits = bundle.predict_logits(SAMPLES, batch_size=2)
    assert np.allclose(logits, bundle.predict_logits(SAMPLES), atol=1e-5)
    assert (logits.shape, logits.dtype) == ((5, 3), np.float32)
    assert bundle.network.training
    assert all(torch.equal(value, before[name]) for name, value in bundle.network.state_dict().items())


def test_the_temperature_divides_the_logits_and_changes_no_prediction():
    bundle = make_bundle()
    logits = torch.from_numpy(bundle.predict_logits(SAMPLES))
    for temperature in (0.5, 1.0, 4.0):
        bundle.temperature = temperature
        probabilities = bundle.predict_probabilities(SAMPLES)
        assert probabilities == pytest.approx(torch.softmax(logits / temperature, dim=1).numpy(), abs=1e-6)
        assert np.array_equal(probabilities.argmax(1), logits.argmax(1))


def test_features_come_one_vector_a_sample_from_read_only_memory():
    samples = SAMPLES.copy()
    samples.setflags(write=False)
    assert make_bundle().predict_features(samples).shape == (5, 96)
    assert make_bundle().predict_features(samples[:0]).shape == (0, 96)


def test_a_bundle_without_classes_has_features_and_says_what_it_lacks(tmp_path):
    bundle = make_bundle()
    bundle.network.replace_head(0)
    bundle.classes = ()
    bundle.save(tmp_path / "bundle")
    loaded = ModelBundle.load(tmp_path / "bundle")
    assert loaded.classes == ()
    assert np.array_equal(loaded.predict_features(SAMPLES), bundle.predict_features(SAMPLES))
    with pytest.raises(InputError, match=r"pretrained without labels.*transfer it to a target first"):
        loaded.require_head()
    make_bundle().require_head()


@pytest.mark.parametrize("architecture", ["convnet", "resnet18", "vgg11", "mobilenet_v3_small"])
@pytest.mark.filterwarnings("error")
def test_a_network_for_no_class_is_built_without_complaint(architecture):
    network = build_network(architecture, classes=0, channels=3)
    assert network.head.weight.shape == (0, network.feature_dim)
    assert network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 0)


def test_of_large_samples_the_network_takes_few_at_once_and_answers_as_with_one_at_a_time():
    bundle = make_bundle()
    bundle.preprocessing = replace(bundle.preprocessing, size=512)
    samples = bundle.preprocessing.noise(13)
    taken: list[int] = []
    bundle.network.stages[0].register_forward_pre_hook(lambda _, inputs: taken.append(len(inputs[0])))

    together = bundle.predict_logits(samples)

    assert sum(taken) == 13
    assert max(taken) == bundle.preprocessing.samples_at_once(torch.device("cpu")) < 8
    np.testing.assert_allclose(together, bundle.predict_logits(samples, batch_size=1), atol=1e-5)
