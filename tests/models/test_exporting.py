"""Exports: what other tools read there computes what the model computes, and comes back as it was."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import headstart as hs
from headstart.errors import HeadstartError, InputError
from headstart.modalities import modality
from headstart.modalities.audio.preprocessing import LogMel
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export, format_of, place_of
from headstart.models.exports import FORMATS
from headstart.models.importing import import_source
from headstart.models.network import linear_head
from tests.models.test_imported import PHOTOGRAPHS, photograph

VIT = (
    "transformers/vit?hidden_size=32&num_hidden_layers=3&num_attention_heads=2&intermediate_size=64&image_size=32"
    "&patch_size=8"
)
DIGEST = f"sha256:{'0' * 64}"


def bundle_of(architecture: str, size: int, channels: int = 3, *, temperature: float = 1.0, **reads) -> ModelBundle:
    """An untrained model that tells pictures apart, under a licence."""
    torch.manual_seed(0)
    network = build_network(architecture, classes=3, channels=channels)
    torch.nn.init.normal_(network.head.weight, std=3 * network.feature_dim**-0.5)
    torch.nn.init.normal_(network.head.bias)
    preprocessing = Preprocessing(size, channels, (0.4,) * channels, (0.2,) * channels, **reads)
    known = {"license": "cc-by-4.0", "source": "somewhere", "head": "trained"}
    names = ("cat", "dog", 'an "owl"')
    return ModelBundle(network.eval(), architecture, "image", preprocessing, names, temperature, known)


@pytest.mark.parametrize(
    ("architecture", "size", "channels", "format"),
    [
        ("convnet", 16, 1, "torch"),
        ("resnet18", 64, 3, "torch"),
        ("squeezenet1_1", 48, 3, "torch"),
        ("ensemble/2/convnet", 16, 3, "torch"),
        ("timm/test_resnet", 64, 1, "torch"),
        ("timm/test_vit?img_size=96", 96, 3, "timm"),
        ("timm/test_resnet", 64, 1, "timm"),
        ("timm/test_resnet", 64, 1, "hf"),
        (VIT, 32, 1, "hf"),
        (VIT, 32, 3, "hf"),
    ],
)
def test_what_was_exported_is_imported_with_the_same_logits_classes_and_licence(
    architecture, size, channels, format, tmp_path
):
    bundle = bundle_of(architecture, size, channels)
    assert export(bundle, tmp_path / "out", format=format, digest=DIGEST).difference < 1e-5

    back = import_source(str(tmp_path / "out"), tmp_path / "bundle").bundle

    samples = bundle.preprocessing.noise(3)
    assert np.abs(back.predict_logits(samples) - bundle.predict_logits(samples)).max() < 1e-5
    assert (back.architecture.partition("?")[0], back.classes) == (architecture.partition("?")[0], bundle.classes)
    assert back.provenance["license"] == "cc-by-4.0"
    assert (back.preprocessing.mean, back.preprocessing.std) == (bundle.preprocessing.mean, bundle.preprocessing.std)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "reads"),
    [
        ("timm/test_resnet", {"resize": 73, "interpolation": "bicubic"}),
        (VIT, {"fitted_by": "stretch", "resize": 32, "interpolation": "bicubic"}),
    ],
)
def test_the_lines_of_the_readme_answer_from_a_files_bytes_as_predict_does(architecture, reads, tmp_path, monkeypatch):
    bundle = bundle_of(architecture, 64 if architecture.startswith("timm/") else 32, temperature=1.7, **reads)
    bundle.save(tmp_path / "bundle")
    model = hs.load(tmp_path / "bundle")
    for format in ("timm", "hf", "torch") if architecture.startswith("timm/") else ("hf", "torch"):
        place = tmp_path / format
        assert model.export(place, format) < 1e-5
        monkeypatch.chdir(place)
        code = re.findall(r"```python\n(.*?)```", (place / "README.md").read_text(), re.DOTALL)[0]
        for raw in PHOTOGRAPHS[:2]:
            (place / "photo.jpg").write_bytes(raw)
            found: dict[str, torch.Tensor] = {}
            exec(code, found)  # noqa: S102 (a page of ours)
            row = model.predict(raw)[["p_cat", "p_dog", 'p_an "owl"']].to_numpy()
            assert np.abs(found["probabilities"].numpy() - row).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["convnet", "resnet18"])
def test_the_torch_folder_needs_torch_or_torchvision_alone(architecture, tmp_path, monkeypatch):
    bundle = bundle_of(architecture, 48, temperature=1.7)
    export(bundle, tmp_path / "out", format="torch", digest=DIGEST)
    monkeypatch.chdir(tmp_path / "out")
    program, *more = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    Path("photo.jpg").write_bytes(photograph(48, 48))

    exec(program, found)  # noqa: S102 (a page of ours)

    samples = modality("image").decode(photograph(48, 48), bundle.preprocessing.given).values[None]
    assert np.abs(found["probabilities"].numpy() - bundle.predict_probabilities(samples)).max() < 1e-6
    assert len(more) == (architecture == "resnet18")
    for code in more:
        exec(code, found)  # noqa: S102
        with torch.inference_mode():
            logits = found["model"].eval()(bundle.preprocessing(torch.from_numpy(samples)))
        assert np.abs(logits.softmax(1).numpy() - bundle.predict_probabilities(samples)).max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "format", "told"),
    [
        ("ensemble/2/convnet", "timm", r"holds timm's models .* is ensemble/2/convnet .*; choose onnx or torch\."),
        ("convnet", "hf", r"holds models of transformers or timm, and this one is convnet .*; choose onnx or torch\."),
        (VIT, "timm", r"is transformers/vit for image data; choose hf, onnx or torch\."),
    ],
)
def test_a_format_that_cannot_hold_the_model_names_those_that_can(architecture, format, told, tmp_path):
    with pytest.raises(InputError, match=told):
        export(bundle_of(architecture, 32), tmp_path / "out", format=format, digest=DIGEST)
    assert not (tmp_path / "out").exists()


def test_a_processor_that_cannot_pad_is_not_written(tmp_path):
    with pytest.raises(InputError, match="whole pictures on black, which no processor"):
        export(bundle_of(VIT, 32, fitted_by="pad"), tmp_path / "out", format="hf", digest=DIGEST)


@pytest.mark.parametrize("format", ["torch", "timm"])
def test_a_model_without_a_head_is_exported_with_its_features(format, tmp_path):
    bundle = bundle_of("timm/test_resnet", 64)
    bundle.classes, bundle.network.head = (), linear_head(bundle.network.feature_dim, 0)
    assert export(bundle, tmp_path / "out", format=format, digest=DIGEST).difference < 1e-5

    back = import_source(str(tmp_path / "out"), tmp_path / "bundle").bundle

    samples = bundle.preprocessing.noise(2)
    assert back.classes == ()
    assert np.abs(back.predict_features(samples) - bundle.predict_features(samples)).max() < 1e-5


def test_a_folder_with_content_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"a cat")
    with pytest.raises(InputError, match="photos exists already; name a new folder"):
        export(bundle_of("convnet", 16), tmp_path / "photos", format="torch", digest=DIGEST)
    assert (tmp_path / "photos" / "cat.png").read_bytes() == b"a cat"


def test_an_export_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(type(FORMATS["timm"]), "write", lambda *_, **__: float("nan"))
    with pytest.raises(HeadstartError, match=r"differs from the bundle by nan .* was not written"):
        export(bundle_of("timm/test_resnet", 64), tmp_path / "out", format="timm", digest=DIGEST)
    assert not (tmp_path / "out").exists()


def test_a_model_of_recordings_goes_to_torch_and_comes_back(tmp_path):
    reads = LogMel(AudioInput(seconds=1.0, mels=16), (120.0,) * 16, (30.0,) * 16)
    network = build_network("convnet", classes=2, channels=1).eval()
    torch.nn.init.normal_(network.head.weight)
    bundle = ModelBundle(network, "convnet", "audio", reads, ("fr", "ru"), temperature=1.3)
    export(bundle, tmp_path / "out", format="torch", digest=DIGEST)

    back = import_source(str(tmp_path / "out"), tmp_path / "bundle").bundle

    assert (back.modality, back.preprocessing, back.temperature) == ("audio", reads, 1.3)
    samples = reads.noise(3)
    assert np.array_equal(back.predict_probabilities(samples), bundle.predict_probabilities(samples))


def test_the_format_follows_from_the_name_of_an_onnx_file_and_else_has_to_be_named():
    assert format_of(None, Path("digits.onnx")) == "onnx"
    assert format_of("torch", Path("digits")) == "torch"
    with pytest.raises(InputError, match="--format is not given; choose one of hf, onnx, timm, torch"):
        format_of(None, Path("digits"))
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        format_of("onnx", Path("digits"))
    with pytest.raises(InputError, match="no export format 'keras'; choose one of"):
        format_of("keras", None)


@pytest.mark.parametrize(
    ("uri", "format", "place"),
    [
        ("models:/digits-target@champion", "timm", "digits-target-champion-timm"),
        ("models:/digits-target/3#sha256=12", "onnx", "digits-target-3.onnx"),
        ("some/folder/bundle/", "torch", "bundle-torch"),
    ],
)
def test_an_export_is_named_after_the_model_and_the_format(uri, format, place):
    assert place_of(uri, format) == Path(place)
