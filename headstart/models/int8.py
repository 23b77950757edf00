"""8-bit whole numbers: ONNX Runtime's quantization of an exported model.

Convolutions are quantized statically: calibration samples tell the range of each layer's results (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference"). Networks with attention
are quantized dynamically: a batch's own range is measured as it is computed, for a few values there are far from the
others (Dettmers et al. 2022, "LLM.int8()").
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import HeadstartError, first_line

# Layers with weights, and what lies between them: there, turning whole numbers into floats and back would take time.
_LAYERS = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Add", "AveragePool", "Concat", "MaxPool", "Relu")
_DYNAMIC = ("MatMul", "Gather")


def quantized(content: bytes, calibration: Sequence[dict[str, np.ndarray]]) -> bytes:
    """Return an ONNX file with int8 weights, one scale a channel, that computes what `content` does.

    `calibration` are batches of its inputs by name. Weights have 7 bits of the 8: processors without VNNI add two
    products in 16 bits, which would overflow.

    Raises:
        HeadstartError: ONNX Runtime cannot quantize the network.
    """
    import onnxruntime

    try:
        return _quantized(content, calibration)
    # What a graph may not hold is told by many kinds of exceptions.
    except Exception as error:
        raise HeadstartError(
            f"ONNX Runtime {onnxruntime.__version__} cannot turn this network into int8 ({first_line(error)}); export "
            "it without --int8, or install a newer onnxruntime."
        ) from error


def _quantized(content: bytes, calibration: Sequence[dict[str, np.ndarray]]) -> bytes:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load_from_string(content)
    # Older versions transpose weights and keep what is told of their shapes; it is inferred again.
    del model.graph.value_info[:]
    # Shapes are inferred, and batch normalisation is part of the convolutions, since the export; the mark only keeps
    # onnxruntime from advising that to be done.
    add_pre_process_metadata(model)
    weights = {"weight_type": quantization.QuantType.QInt8, "per_channel": True, "reduce_range": True}
    with tempfile.TemporaryDirectory() as folder:
        # As a file: onnxruntime 1.20 loses the weights of a model in memory.
        given, file = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        given.write_bytes(model.SerializeToString())
        if _attends(model.graph):
            quantization.quantize_dynamic(given, file, op_types_to_quantize=list(_DYNAMIC), **weights)
        else:
            quantization.quantize_static(
                given,
                file,
                _Reader(calibration),
                quant_format=quantization.QuantFormat.QOperator,
                activation_type=quantization.QuantType.QUInt8,
                op_types_to_quantize=[*_LAYERS, *_BETWEEN],
                nodes_to_exclude=_before_layers(model.graph),
                **weights,
            )
        return file.read_bytes()


class _Reader:
    """Batches as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Sequence[dict[str, np.ndarray]]) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _attends(graph: Any) -> bool:
    """Whether something is multiplied by what is no weight."""
    weights = {each.name for each in graph.initializer}
    return any(node.op_type == "MatMul" and node.input[1] not in weights for node in graph.node)


def _before_layers(graph: Any) -> list[str]:
    """The names of the nodes that no layer precedes: preprocessing, whose results decide about all others'."""
    preceded, names = set[str](), []
    for node in graph.node:
        if node.op_type in _LAYERS or preceded.intersection(node.input):
            preceded.update(node.output)
        else:
            names.append(node.name)
    return names
