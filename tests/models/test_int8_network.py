"""Networks of 8-bit whole numbers: what they answer, and what a bundle's file may not hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from headstart.errors import HeadstartError, InputError
from headstart.judging.int8 import export_int8
from headstart.judging.serving_cost import cost_of
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import modality
from headstart.models.architectures import build_network, check_reads
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export
from headstart.models.int8_network import as_int8
from headstart.models.sources import load_source
from headstart.version import __version__
from tests.models.test_bundle import seal
from tests.models.test_exporting import VIT, bundle_of
from tests.quantizing import DIGEST, check_int8


def model(task: str = "single_label") -> ModelBundle:
    """A small network that answers such a task."""
    bundle = bundle_of("convnet", 13, 1, temperature=1.7)
    if task == REGRESSION:
        bundle.network = build_network("convnet", classes=1, channels=1).eval()
        torch.nn.init.normal_(bundle.network.head.weight)
        bundle.network.measure(20.0, 5.0)
        return replace(bundle, task=task, classes=("value",), margin=2.0)
    if task == MULTI_LABEL:
        bundle.network.label()
        return replace(bundle, task=task, thresholds=(0.3, 0.5, 0.6))
    return bundle


@pytest.fixture(scope="module")
def small() -> ModelBundle:
    return as_int8(model(), model().preprocessing.noise(32))


@pytest.fixture
def kept(small, tmp_path) -> Path:
    """The small model as a bundle."""
    small.save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("task", ["single_label", MULTI_LABEL, REGRESSION])
def test_a_model_of_any_task_answers_the_same_wherever_it_runs(task, tmp_path):
    bundle = model(task)
    small = check_int8(bundle, bundle.preprocessing.noise(32), bundle.preprocessing.noise(5), tmp_path)
    assert small.calibration == bundle.calibration


def test_with_attention_a_picture_is_answered_alike_whatever_is_beside_it(tmp_path):
    bundle = bundle_of(VIT, 32)
    check_int8(bundle, bundle.preprocessing.noise(2), bundle.preprocessing.noise(5), tmp_path)


def test_its_latency_is_that_of_the_quantized_network_on_one_core(small, kept):
    threads = torch.get_num_threads()
    cost = cost_of(small, kept)
    (program,) = small.network.stages

    assert cost.size == (kept / "model.safetensors").stat().st_size
    assert cost.milliseconds > 0
    # That the session has as many threads as the measurement asks for.
    assert program._session[0] == 1
    assert torch.get_num_threads() == threads


def test_it_cannot_be_quantized_again_trained_or_exported_for_pytorch(small, kept, tmp_path):
    with pytest.raises(InputError, match="int8/convnet is of 8-bit whole numbers already"):
        as_int8(small, small.preprocessing.noise(2))
    with pytest.raises(InputError, match="8-bit whole numbers already; export it without --int8"):
        export_int8(small, tmp_path / "x.onnx", "nowhere", digest=DIGEST)
    with pytest.raises(InputError, match="cannot be trained on; choose the model it was made of"):
        load_source(str(kept), modality="image")
    with pytest.raises(InputError, match="int8/convnet is of 8-bit whole numbers, which cannot be trained"):
        check_reads("int8/convnet", modality("image"))
    for format in ("torch", "timm", "hf"):
        with pytest.raises(InputError, match=f"--format {format} cannot hold this model: .*; choose onnx"):
            export(small, tmp_path / format, format=format, digest=DIGEST)


def test_a_byte_that_changed_is_found(kept):
    file = kept / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is not the file that SHA256SUMS lists"):
        ModelBundle.load(kept)


def rewritten(bundle: Path, change) -> None:
    """Change the ONNX file in a bundle on purpose, sums included."""
    state = load_file(bundle / "model.safetensors")
    graph = onnx.load_from_string(state["stages.0.content"].numpy().tobytes())
    changed = change(graph)
    content = changed if isinstance(changed, bytes) else graph.SerializeToString()
    state["stages.0.content"] = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    save_file(state, bundle / "model.safetensors")
    seal(bundle)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def of_many_values(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="many", dims=[10**12], data_type=TensorProto.FLOAT))


def made_large(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**6, 10**6]), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["large"]))


def made_large_by_a_constant(model: onnx.ModelProto) -> None:
    sizes = numpy_helper.from_array(np.array([10**6, 10**6]))
    model.graph.node.append(helper.make_node("Constant", [], ["shape"], value=sizes))
    model.graph.node.append(helper.make_node("Expand", [model.graph.output[0].name, "shape"], ["large"]))


def with_a_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["turned"], body=body))


def of_another_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Add", ["a", "b"], ["c"], domain="somebody.else"))


def in_functions(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], model.opset_import))


def of_other_classes(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (external, "is in another file"),
        (of_many_values, "says that it has 1,000,000,000,000 values and holds 0"),
        (made_large, "operator ConstantOfShape makes a tensor of more than 100,000,000 values"),
        (made_large_by_a_constant, "operator Expand makes a tensor of more than 100,000,000 values"),
        (with_a_loop, "it has the operator 'Loop'"),
        (of_another_domain, "it has the operator 'somebody.else Add'"),
        (in_functions, "it has functions"),
        (of_other_classes, "it does not answer with 3 values a sample"),
        (lambda _: b"no model", "it cannot be read"),
        (lambda _: b"", "does not answer with 3 values"),
    ],
)
def test_a_file_that_somebody_changed_on_purpose_is_refused_before_it_is_run(kept, change, told):
    rewritten(kept, change)
    with pytest.raises(
        InputError, match=f"The ONNX file in the bundle .*{told}.*take the bundle from where it was made"
    ):
        ModelBundle.load(kept)


def test_a_file_that_is_no_tensor_of_bytes_is_refused(kept):
    state = load_file(kept / "model.safetensors")
    save_file({**state, "stages.0.content": torch.zeros(4)}, kept / "model.safetensors")
    seal(kept)
    with pytest.raises(InputError, match="is no file of bytes"):
        ModelBundle.load(kept)


def test_a_file_that_onnxruntime_does_not_take_is_refused_in_a_sentence(kept):
    def cut(model: onnx.ModelProto) -> None:
        del model.graph.node[3]

    rewritten(kept, cut)
    bundle = ModelBundle.load(kept)
    with pytest.raises(HeadstartError, match=r"cannot compute these samples .*its bundle is damaged"):
        bundle.predict_outputs(bundle.preprocessing.noise(1))


def test_without_onnxruntime_a_bundle_says_what_to_install(kept, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime, which is not installed; run: pip install .*\[onnx\]"):
        ModelBundle.load(kept)


def test_its_registered_version_asks_for_the_extra_that_runs_it(small, kept, tmp_path):
    from headstart.tracking.logged_model import save_pyfunc

    save_pyfunc(tmp_path / "model", small, {"bundle": kept}, with_example=False)
    assert f"headstart[onnx]=={__version__}" in (tmp_path / "model" / "requirements.txt").read_text().split()
