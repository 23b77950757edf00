"""Export as 8-bit whole numbers: smaller, as good as the model on other samples, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import headstart as hs
from headstart.errors import HeadstartError, InputError
from headstart.judging import int8
from headstart.judging.int8 import Int8, export_int8
from headstart.judging.reading import read_samples
from headstart.judging.serving_cost import ServingCost
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.int8 import quantized
from headstart.models.onnx import arrays, checked, predictor
from headstart_pipelines.cli import main
from tests.models.test_exporting import VIT, bundle_of

# Odd at every scale of the network, so that windows of its pools reach over the edges.
SIZE = 13
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Pictures of 300 digits in one folder a class, upright and of the model's size."""
    root, found = tmp_path_factory.mktemp("digits"), load_digits()
    for number in range(300):
        folder = root / str(found.target[number])
        folder.mkdir(exist_ok=True)
        picture = Image.fromarray((found.images[number] * 15).astype(np.uint8)).resize((SIZE, SIZE))
        picture.save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def model(digits) -> ModelBundle:
    """A convnet that tells the digits apart."""
    torch.manual_seed(0)
    paths = sorted(digits.rglob("*.png"))
    samples = torch.from_numpy(np.stack([np.asarray(Image.open(path))[..., None] for path in paths]))
    labels = torch.tensor([int(path.parent.name) for path in paths])
    network = build_network("convnet", classes=10, channels=1)
    names = tuple(str(digit) for digit in range(10))
    bundle = ModelBundle(network, "convnet", "image", Preprocessing(SIZE, 1, (0.3,), (0.3,)), names, temperature=1.3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(bundle.preprocessing(samples[rows])), labels[rows]).backward()
            optimizer.step()
    network.eval()
    return bundle


def test_a_third_of_the_bytes_answer_as_the_model_does_on_samples_that_did_not_calibrate_them(model, digits, tmp_path):
    found = export_int8(model, tmp_path / "digits.onnx", str(digits), digest=DIGEST)

    assert (found.calibrated_on, found.compared_on) == (150, 150)
    assert found.after.size == (tmp_path / "digits.onnx").stat().st_size < found.before.size / 3
    assert found.likeness > 0.98
    assert found.scores[1] > 0.9
    session = onnxruntime.InferenceSession(tmp_path / "digits.onnx")
    samples = [np.asarray(Image.open(path))[..., None] for path in sorted(digits.rglob("*.png"))]
    (probabilities,) = session.run(None, {"images": np.stack(samples)})
    # The two differ by what 8 bits lose; onnxruntime's averages over edges would change some by 0.8.
    assert np.abs(probabilities - model.predict_probabilities(np.stack(samples))).max() < 0.3
    metadata = session.get_modelmeta().custom_metadata_map
    assert (json.loads(metadata["classes"]), metadata["digest"]) == (list(model.classes), DIGEST)


def test_a_network_with_attention_has_int8_weights_without_any_calibration():
    bundle = bundle_of(VIT, 32)
    content, _, _ = checked(bundle, DIGEST)

    smaller = quantized(content, [])

    samples = bundle.preprocessing.noise(9)
    outputs = [predictor(bundle, each, threads=1)(samples) for each in (content, smaller)]
    assert len(smaller) < 0.7 * len(content)
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1


def test_preprocessing_stays_exact(model):
    """Its result is what the first layer's range is calibrated on; at 8 bits, dark pictures would be lost."""
    import onnx

    content, _, _ = checked(model, DIGEST)
    graph = onnx.load_from_string(quantized(content, [arrays(model, model.preprocessing.noise(8))])).graph
    names = [node.op_type for node in graph.node]

    assert {"Mul", "Add"} <= set(names[: names.index("QuantizeLinear")])


def test_what_answers_otherwise_is_not_written(model, digits, tmp_path, monkeypatch):
    untrained = replace(model, network=build_network("convnet", classes=10, channels=1).eval())
    content, _, _ = checked(untrained, DIGEST)
    monkeypatch.setattr(int8, "quantized", lambda _, batches: quantized(content, batches))

    with pytest.raises(
        HeadstartError, match=r"int8 does not do for this model: .* fewer than 98%; nothing was written"
    ):
        export_int8(model, tmp_path / "digits.onnx", str(digits), digest=DIGEST)
    assert not list(tmp_path.iterdir())


def test_a_file_that_onnxruntime_cannot_quantize_is_refused_in_a_sentence():
    with pytest.raises(
        HeadstartError, match=r"ONNX Runtime \d.* cannot turn this network into int8 \(.*without --int8"
    ):
        quantized(b"no model", [])


def compared(**values) -> Int8:
    small, large = ServingCost(1, 1.0), ServingCost(4, 1.0)
    usual = {"task": "single_label", "metric": "accuracy", "before": large, "after": small, "scores": (0.9, 0.9)}
    counts = {"calibrated_on": 50, "compared_on": 50}
    return Int8(**{"path": Path("a.onnx"), "likeness": 1.0, **usual, **counts, **values})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"likeness": 0.98, "scores": (0.9, 0.891)}, None),
        ({"likeness": 0.979}, "97.9% of its classes are the model's, fewer than 98%"),
        ({"likeness": float("nan")}, "fewer than 98%"),
        ({"scores": (0.9, 0.88)}, "its accuracy is 0.880 and the model's 0.900"),
        ({"after": ServingCost(4, 0.5)}, "no smaller than the model's own .onnx file"),
        ({"task": "regression", "metric": "mae", "likeness": 0.2, "scores": (3.0, 3.1)}, None),
        ({"task": "regression", "metric": "mae", "likeness": 0.21}, "by 21.0% of the model's own error, more than 20%"),
        ({"task": "regression", "metric": "mae", "likeness": float("nan")}, "more than 20%"),
        ({"task": "multi_label", "metric": "map", "likeness": 0.5}, "50.0% of its labels are the model's"),
    ],
)
def test_it_is_kept_only_within_the_bounds_and_if_it_is_smaller(values, reason):
    refusal = compared(**values).refusal

    assert (refusal is None) == (reason is None)
    assert (reason or "") in (refusal or "")


def test_few_samples_are_drawn_from_all_classes_and_always_the_same(model, digits):
    drawn = [[file.path for read in read_samples(model, str(digits), "required", 60) for file in read.files]] * 2

    assert len(drawn[0]) == 60
    assert drawn[0] == drawn[1]
    assert len({path.split("/")[0] for path in drawn[0]}) == 10


def test_too_few_samples_to_calibrate_and_compare_are_refused(model, digits, tmp_path):
    for path in sorted(digits.rglob("*.png"))[:99]:
        (tmp_path / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / path.parent.name / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="holds 99 samples that can be read, and int8 needs 100"):
        export_int8(model, tmp_path / "digits.onnx", str(tmp_path / "few"), digest=DIGEST)


def test_the_command_shows_size_time_and_metric_beside_the_models_own(model, digits, tmp_path, capsys):
    model.save(tmp_path / "bundle")

    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "bundle"), "-o", "digits.onnx", "--int8", str(digits)])

    assert ended.value.code == 0
    header, before, after, sentence = capsys.readouterr().out.splitlines()
    assert header.split() == ["MB", "ms", "accuracy"]
    assert (before.split()[0], after.split()[0]) == ("model", "int8")
    assert float(before.split()[1]) > 3 * float(after.split()[1])
    assert sentence.startswith("digits.onnx: on 150 samples that it was not calibrated on, ")


def test_the_command_refuses_another_format(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "bundle", "--format", "torch", "--int8", "photos"])

    assert ended.value.code == 2
    assert "--int8 is for --format onnx, and --format torch keeps the model as it is" in capsys.readouterr().err


def test_from_python_too_the_files_name_tells_that_it_is_onnx(model, tmp_path):
    model.save(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        hs.load(tmp_path / "bundle").export_int8(tmp_path / "digits.bin", tmp_path)
