"""ONNX export: a bundle as one file for other runtimes, compared with the bundle before it is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.errors import HeadstartError
from headstart.metrics.task import REGRESSION
from headstart.models.bundle import ModelBundle
from headstart.models.int8_network import program_of
from headstart.models.onnx_graph import graph_of, require_onnx, session_of
from headstart.models.served import Answering, Reading, Served, stored_tensors
from headstart.storage.local import write_bytes

LARGEST_DIFFERENCE = 1e-4
LARGEST_OF_INT8 = 0.05
"""Of a network of 8-bit whole numbers: a value that preprocessing rounds otherwise may fall into the next of 256
steps."""
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
    if program_of(bundle):
        # It runs there already, on as many threads as PyTorch.
        return bundle.predict_outputs
    return checked(bundle, "", threads)[1]


def checked(bundle: ModelBundle, digest: str, threads: int = 0) -> tuple[bytes, Predict, float]:
    """Return the bundle as an ONNX file, as a function like `runtime`'s, and the largest difference of an output.

    `threads` of 0 leaves their number to ONNX Runtime. Raises as `export` does.
    """
    bundle.require_head()
    require_onnx()
    content = _convert(bundle, digest)
    predict = predictor(bundle, content, threads=threads)
    difference, largest = 0.0, 1.0
    program = program_of(bundle)
    # The judged answers are those for samples that are given alone.
    for count in (1,) if program and program.alone else _BATCHES:
        samples = bundle.preprocessing.noise(count)
        found = predict(samples)
        own = bundle.predict_outputs(samples)
        # A model of numbers for which nothing was held out has no margin.
        told = ~np.isnan(own)
        difference = max(difference, float(np.abs(found - own)[told].max()))
        largest = max(largest, float(np.abs(own[told]).max()))
    # Probabilities are at most 1; numbers have the target's unit. Negated, so that NaN is refused too.
    limit = largest * (LARGEST_OF_INT8 if program else LARGEST_DIFFERENCE)
    if not difference <= limit:
        raise HeadstartError(
            f"The exported {bundle.architecture} differs from the bundle by {difference:.2g} in an output, more "
            f"than {limit:.2g}, and was not written; serve the bundle itself."
        )
    return content, predict, difference


def predictor(bundle: ModelBundle, content: bytes, *, threads: int) -> Predict:
    """Return a function from stored samples to the outputs of an ONNX file that was made of the bundle."""
    session = session_of(content, threads=threads)

    def predict(samples: Any) -> np.ndarray:
        (found,) = session.run(None, arrays(bundle, samples))
        return np.asarray(found)

    return predict


def arrays(bundle: ModelBundle, samples: Any) -> dict[str, np.ndarray]:
    """Return what an ONNX file of the bundle reads for stored samples, by the names of its inputs."""
    return {name: each.numpy() for name, each in stored_tensors(bundle, samples).items()}


def _convert(bundle: ModelBundle, digest: str) -> bytes:
    import onnx

    # The exporter treats a batch of one as a constant.
    tensors = stored_tensors(bundle, bundle.preprocessing.noise(2))
    output = "numbers" if bundle.task == REGRESSION else "probabilities"
    if program := program_of(bundle):
        proto = _around(onnx.load_from_string(program.file), bundle, tensors, output)
    else:
        proto = graph_of(Served(bundle), bundle, tensors, output)
    for key, value in {"classes": json.dumps(list(bundle.classes)), "digest": digest}.items():
        proto.metadata_props.add(key=key, value=value)
    content: bytes = proto.SerializeToString()
    return content


def _around(program: Any, bundle: ModelBundle, tensors: dict[str, Tensor], output: str) -> Any:
    """The onnx.ModelProto of a bundle whose network is one already: what reads stored samples is put before it, and
    behind it what answers."""
    from onnx import compose

    opset = next(each.version for each in program.opset_import if each.domain in ("", "ai.onnx"))
    names = [each.name for each in program.graph.input]
    logits = bundle.predict_logits(bundle.preprocessing.noise(2))
    answering = graph_of(Answering(bundle), bundle, {"answered": torch.from_numpy(logits)}, output, opset=opset)
    parts = [compose.add_prefix(program, "network/"), compose.add_prefix(answering, "answers/")]
    if bundle.preprocessing.in_programs:
        # What is read may be called as what is given.
        reading = graph_of(Reading(bundle), bundle, tensors, *(f"read_{each}" for each in names), opset=opset)
        parts.insert(0, compose.add_prefix(reading, "reading/"))
    for part in parts:
        part.ir_version = program.ir_version
        del part.metadata_props[:]
    *before, network, answers = parts
    whole = network
    if before:
        whole = compose.merge_models(before[0], whole, [(f"reading/read_{each}", f"network/{each}") for each in names])
        read = {f"reading/{name}": name for name in tensors}
    else:
        read = {f"network/{name}": name for name in names}
    given = program.graph.output[0].name
    whole = compose.merge_models(whole, answers, [(f"network/{given}", "answers/answered")])
    _rename(whole.graph, {**read, f"answers/{output}": output})
    return whole


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Rename values of a graph, its inputs and outputs among them."""
    for each in (*graph.input, *graph.output, *graph.value_info):
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
