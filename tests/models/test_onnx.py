import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.errors import HeadstartError, InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models import onnx as exporter
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.onnx import export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def bundle_of(architecture: str, size: int, channels: int) -> ModelBundle:
    """An untrained network with enough weight in its head, and statistics of its own, that outputs differ."""
    torch.manual_seed(0)
    network = build_network(architecture, classes=3, channels=channels)
    torch.nn.init.normal_(network.head.weight, std=10 / network.feature_dim)
    with torch.no_grad():
        network(torch.randn(8, channels, size, size))
    preprocessing = Preprocessing(size, channels, mean=(0.4,) * channels, std=(0.2,) * channels)
    return ModelBundle(network.eval(), architecture, "image", preprocessing, ("cat", "dog", "owl"), temperature=1.7)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    assert export(bundle_of("convnet", 16, 1), path, digest="sha256:1") <= 1e-4
    return path


@pytest.mark.parametrize(("architecture", "size", "channels"), [("convnet", 16, 1), ("resnet18", 48, 3)])
def test_an_exported_model_answers_as_the_bundle_whatever_the_batch(architecture, size, channels, exported, tmp_path):
    bundle, path = bundle_of(architecture, size, channels), exported
    if architecture != "convnet":
        path = tmp_path / "model.onnx"
        assert export(bundle, path, digest="sha256:1") <= 1e-4
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(path)
    noise = np.random.default_rng(7).integers(0, 256, (9, size, size, channels))
    samples = (noise * np.linspace(0, 1, 9)[:, None, None, None]).astype(np.uint8)
    expected = bundle.predict_probabilities(samples)
    assert expected.std(axis=0).max() > 0.01
    for count in (1, 2, 9):
        (found,) = session.run(None, {"images": samples[:count]})
        assert found.dtype == np.float32
        assert found == pytest.approx(expected[:count], abs=1e-4)


def test_the_file_says_what_goes_in_and_comes_out_and_what_it_was_made_of(exported):
    session = onnxruntime.InferenceSession(exported)
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["N", 16, 16, 1])
    assert (answered.name, answered.type, answered.shape) == ("probabilities", "tensor(float)", ["N", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["cat", "dog", "owl"]
    assert metadata["digest"] == "sha256:1"
    onnx.checker.check_model(str(exported))


def test_averages_over_edges_count_no_padding_where_onnxruntime_1_20_would_divide_by_it(exported):
    pools = [node for node in onnx.load(exported).graph.node if node.op_type == "AveragePool"]
    counts = [each.i for node in pools for each in node.attribute if each.name == "count_include_pad"]
    assert len(pools) == 3
    assert not any(counts)


def test_the_file_tells_nothing_of_the_machine_that_made_it(exported):
    assert str(Path(exporter.__file__).parent).encode() not in exported.read_bytes()


def test_a_model_that_answers_otherwise_is_not_written(exported, tmp_path, monkeypatch):
    bundle = bundle_of("convnet", 16, 1)
    bundle.temperature *= 2
    monkeypatch.setattr(exporter, "_convert", lambda bundle, digest: exported.read_bytes())
    with pytest.raises(HeadstartError, match=r"differs from the bundle by .* more than 0\.0001, and was not written"):
        export(bundle, tmp_path / "model.onnx", digest="sha256:1")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .*pip install 'headstart\[onnx\]'"):
        export(bundle_of("convnet", 16, 1), tmp_path / "model.onnx", digest="sha256:1")


def test_weights_beyond_what_one_file_holds_are_refused(tmp_path):
    bundle = bundle_of("convnet", 16, 1)
    # A tensor without memory of its own stands for one of two gigabytes.
    bundle.network.register_buffer("large", torch.zeros(1).expand(500_000_001))
    with pytest.raises(InputError, match=r"The weights take 2\.0 GB and one ONNX file holds 2"):
        export(bundle, tmp_path / "model.onnx", digest="sha256:1")


def test_a_model_that_knows_no_classes_is_not_exported(tmp_path):
    bundle = bundle_of("convnet", 16, 1)
    bundle.network.replace_head(0)
    bundle.classes = ()
    with pytest.raises(InputError, match="knows no classes; transfer it to a target first"):
        export(bundle, tmp_path / "model.onnx", digest="sha256:1")
    assert not list(tmp_path.iterdir())
