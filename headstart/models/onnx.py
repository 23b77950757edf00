"""ONNX export: a bundle as one file for other runtimes, compared with the bundle before it is written."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.errors import HeadstartError, InputError, first_line
from headstart.metrics.task import REGRESSION
from headstart.models.bundle import ModelBundle
from headstart.models.served import Served, free_sizes, stored_tensors
from headstart.storage.local import write_bytes

LARGEST_DIFFERENCE = 1e-4
# Protobuf, and so a single ONNX file, is limited to 2 GiB, graph included.
_LARGEST_BYTES = 2_000_000_000
_BATCHES = (1, 5)

Predict = Callable[[Any], np.ndarray]
"""Stored samples to the task's outputs, float32 (N, ...)."""


def export(bundle: ModelBundle, path: Path, *, digest: str) -> float:
    """Write the bundle to `path` as one ONNX file; return the largest difference of a probability from the bundle's
    own.

    Input: stored samples of any number N, for pictures `images`, uint8 (N, size, size, channels); of a modality whose
    batches have several tensors, one input each; of texts token ids and their mask. Output `probabilities`: float32
    (N, K); of a model of numbers `numbers`: value, deviation and margin, float32 (N, 3). Preprocessing, but for a
    tokenizer, temperature and softmax are part of the graph. The metadata has `classes`, a JSON list, and `digest`, the
    bundle's. onnxruntime is compared on batches of two sizes; if a difference is too large, nothing is written.

    Raises:
        InputError: the packages of the extra `onnx` are not installed, the weights exceed the 2 GB of one file, or the
            model has no classes.
        HeadstartError: PyTorch cannot export the architecture, or a probability differs by more than 1e-4.
    """
    content, _, difference = checked(bundle, digest)
    write_bytes(path, content)
    return difference


def runtime(bundle: ModelBundle, *, threads: int) -> Predict:
    """Return a function from stored samples to probabilities, float32 (N, K), by ONNX Runtime on `threads` threads of
    the CPU. Raises as `export` does."""
    return checked(bundle, "", threads)[1]


def checked(bundle: ModelBundle, digest: str, threads: int = 0) -> tuple[bytes, Predict, float]:
    """Return the bundle as an ONNX file, as a function like `runtime`'s, and the largest difference of an output.

    `threads` of 0 leaves their number to ONNX Runtime. Raises as `export` does.
    """
    bundle.require_head()
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"ONNX export needs {error.name}, which is not installed; run: pip install 'headstart[onnx]'"
        ) from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in bundle.network.state_dict().values())
    if size > _LARGEST_BYTES:
        raise InputError(
            f"The weights take {size / 1e9:.1f} GB and one ONNX file holds 2; serve the bundle itself, or export a "
            "smaller architecture."
        )
    content = _convert(bundle, digest)
    predict = predictor(bundle, content, threads=threads)
    difference, largest = 0.0, 1.0
    for count in _BATCHES:
        samples = bundle.preprocessing.noise(count)
        found = predict(samples)
        own = bundle.predict_outputs(samples)
        # A model of numbers for which nothing was held out has no margin.
        told = ~np.isnan(own)
        difference = max(difference, float(np.abs(found - own)[told].max()))
        largest = max(largest, float(np.abs(own[told]).max()))
    # Probabilities are at most 1; numbers have the target's unit. Negated, so that NaN is refused too.
    if not difference <= LARGEST_DIFFERENCE * largest:
        raise HeadstartError(
            f"The exported {bundle.architecture} differs from the bundle by {difference:.2g} in an output, more "
            f"than {LARGEST_DIFFERENCE * largest:.2g}, and was not written; serve the bundle itself."
        )
    return content, predict, difference


def predictor(bundle: ModelBundle, content: bytes, *, threads: int) -> Predict:
    """Return a function from stored samples to the outputs of an ONNX file that was made of the bundle."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    # Threads that wait for work in a loop take the cores from those that decode.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    def predict(samples: Any) -> np.ndarray:
        (found,) = session.run(None, arrays(bundle, samples))
        return np.asarray(found)

    return predict


def arrays(bundle: ModelBundle, samples: Any) -> dict[str, np.ndarray]:
    """Return what an ONNX file of the bundle reads for stored samples, by the names of its inputs."""
    return {name: each.numpy() for name, each in stored_tensors(bundle, samples).items()}


def _convert(bundle: ModelBundle, digest: str) -> bytes:
    program: Any
    # The exporter treats a batch of one as a constant.
    tensors = stored_tensors(bundle, bundle.preprocessing.noise(2))
    try:
        # The exporter's warnings concern its own internals.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Served(bundle).eval(),
                tuple(tensors.values()),
                dynamo=True,
                verbose=False,
                input_names=list(tensors),
                output_names=["numbers" if bundle.task == REGRESSION else "probabilities"],
                dynamic_shapes={"tensors": free_sizes(bundle, tensors)},
            )
    except torch.onnx.OnnxExporterError as error:
        raise HeadstartError(f"PyTorch cannot export {bundle.architecture} to ONNX: {first_line(error)}") from error
    for node in program.model.graph.all_nodes():
        # The exporter's internal notes, which include paths on this machine.
        node.metadata_props.clear()
    program.model.metadata_props.update(classes=json.dumps(list(bundle.classes)), digest=digest)
    proto = program.model_proto
    _count_no_padding(proto.graph)
    content: bytes = proto.SerializeToString()
    return content


def _count_no_padding(graph: Any) -> None:
    """Keep averages from counting padding where there is none. They are the same; but where a window of `ceil_mode`
    reaches over the edge, onnxruntime 1.20 would average floats wrongly, and 1.32 whole numbers."""
    for node in graph.node:
        if node.op_type == "AveragePool":
            given = {each.name: each for each in node.attribute}
            if "count_include_pad" in given and not any(given["pads"].ints if "pads" in given else ()):
                given["count_include_pad"].i = 0
