"""Parts of a bundle as ONNX graphs, which PyTorch writes and ONNX Runtime runs on the CPU."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import HeadstartError, InputError, first_line
from headstart.models.bundle import ModelBundle
from headstart.models.served import free_sizes

# Protobuf, and so a single ONNX file, is limited to 2 GiB, graph included.
_LARGEST_BYTES = 2_000_000_000


def require_onnx() -> None:
    """InputError if a package of the extra `onnx` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"ONNX needs {error.name}, which is not installed; run: pip install 'headstart[onnx]'"
        ) from error


def graph_of(
    module: nn.Module, bundle: ModelBundle, tensors: dict[str, Tensor], *outputs: str, opset: int | None = None
) -> Any:
    """Return an onnx.ModelProto of `module`, part or whole of what the bundle computes: maps tensors like `tensors`,
    which are its inputs by name, to those called `outputs`. `opset` is the version of its operators; None: PyTorch's.

    Raises:
        InputError: the weights exceed the 2 GB of one file.
        HeadstartError: PyTorch cannot export it.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > _LARGEST_BYTES:
        raise InputError(
            f"The weights take {size / 1e9:.1f} GB and one ONNX file holds 2; serve the bundle itself, or export a "
            "smaller architecture."
        )
    program: Any
    try:
        # The exporter's warnings concern its own internals.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(tensors.values()),
                dynamo=True,
                verbose=False,
                input_names=list(tensors),
                output_names=list(outputs),
                opset_version=opset,
                dynamic_shapes={"tensors": free_sizes(bundle, tensors)},
            )
    except torch.onnx.OnnxExporterError as error:
        raise HeadstartError(f"PyTorch cannot export {bundle.architecture} to ONNX: {first_line(error)}") from error
    for node in program.model.graph.all_nodes():
        # The exporter's internal notes, which include paths on this machine.
        node.metadata_props.clear()
    proto = program.model_proto
    _count_no_padding(proto.graph)
    return proto


def session_of(content: bytes, *, threads: int) -> Any:
    """Return an onnxruntime.InferenceSession of a file on `threads` threads of the CPU; 0: as many as it likes."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    # Threads that wait for work in a loop take the cores from those that decode.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def _count_no_padding(graph: Any) -> None:
    """Keep averages from counting padding where there is none. They are the same; but where a window of `ceil_mode`
    reaches over the edge, onnxruntime 1.20 would average floats wrongly, and 1.32 whole numbers."""
    for node in graph.node:
        if node.op_type == "AveragePool":
            given = {each.name: each for each in node.attribute}
            if "count_include_pad" in given and not any(given["pads"].ints if "pads" in given else ()):
                given["count_include_pad"].i = 0
