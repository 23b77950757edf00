"""ONNX files that a bundle brings: what one may hold, checked before ONNX Runtime reads it.

A file may name others, whose content would become weights, and small files can ask for any amount of memory: by a
tensor that says it is larger than the bytes it has, or by operators that make tensors of a given size.
"""

import math
from collections.abc import Iterator
from typing import Any

from headstart.data.tree import one_line
from headstart.errors import InputError, shortened

# The operators of quantized classifiers; none of them runs a graph, draws numbers or reads a file.
_PLAIN = """
    Add And AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv Cos CumSum
    DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger
    Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization
    Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Swish Tanh
    Tile Transpose Trilu Unsqueeze Where
"""
_MICROSOFT = """
    DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QuantizeLinear
"""
_OPERATORS = {"": frozenset(_PLAIN.split()), "com.microsoft": frozenset(_MICROSOFT.split())}
_MOST_VALUES = 100_000_000
"""of a tensor that an operator makes by constants: ONNX Runtime makes it as it reads the file"""
# The inputs by which an operator's result has its size.
_SIZES = {"ConstantOfShape": (0,), "Expand": (1,), "Pad": (1,), "Range": (0, 1), "Resize": (2, 3), "Tile": (1,)}
# TensorProto.DataType: bytes of a value; types that no classifier has are missing.
_BYTES = {1: 4, 2: 1, 3: 1, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_EXTERNAL = 1
_MOST_AXES = 100


def check_graph(content: bytes, width: int) -> Any:
    """Return the onnx.ModelProto of a file whose one output has rows of `width` values.

    Raises:
        InputError: it is none, names another file, holds a tensor that is larger than its bytes, or an operator that no
            quantized network has.
    """
    import onnx

    try:
        model = onnx.load_from_string(content)
        refusal = next(_refusals(model, width), None)
    # What protobuf cannot read is told by many kinds of exceptions.
    except Exception as error:
        raise _refused(f"it cannot be read: {one_line(error)[:200]}") from error
    if refusal:
        raise _refused(refusal)
    return model


def _refused(reason: str) -> InputError:
    return InputError(
        f"The ONNX file in the bundle is not a network that headstart wrote: {reason}; take the bundle from where it "
        "was made."
    )


def _refusals(model: Any, width: int) -> Iterator[str]:
    graph = model.graph
    if len(model.functions) or len(model.training_info) or len(graph.sparse_initializer):
        yield "it has functions, trainings or sparse tensors"
    constants = {}
    for tensor in graph.initializer:
        yield from _of_tensor(tensor)
        constants[tensor.name] = tensor
    for node in graph.node:
        if node.op_type not in _OPERATORS.get("" if node.domain == "ai.onnx" else node.domain, ()):
            yield f"it has the operator {shortened(f'{node.domain} {node.op_type}'.strip())!r}"
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs):
                yield f"its operator {node.op_type} runs a graph"
            if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
                yield f"its operator {node.op_type} has a sparse tensor"
            for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
                yield from _of_tensor(tensor)
            if node.op_type == "Constant" and attribute.HasField("t"):
                constants[node.output[0]] = attribute.t
        yield from _of_size(node, constants)
    shapes = [[each.dim_value for each in output.type.tensor_type.shape.dim] for output in graph.output]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != width:
        yield f"it does not answer with {width} values a sample"


def _of_tensor(tensor: Any) -> Iterator[str]:
    name = shortened(tensor.name)
    if tensor.data_location == _EXTERNAL or len(tensor.external_data):
        yield f"its tensor {name!r} is in another file"
    if tensor.data_type not in _BYTES or any(each < 0 for each in tensor.dims):
        yield f"its tensor {name!r} has a type or a shape that no network has"
        return
    values = math.prod(tensor.dims)
    listed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    held = len(tensor.raw_data) // _BYTES[tensor.data_type] + sum(len(each) for each in listed)
    if values != held:
        yield f"its tensor {name!r} says that it has {values:,} values and holds {held:,}"


def _of_size(node: Any, constants: dict[str, Any]) -> Iterator[str]:
    """Why the node may not be, where it makes a tensor of a size that the file gives."""
    from onnx import numpy_helper

    for place in _SIZES.get(node.op_type, ()):
        given = constants.get(node.input[place]) if place < len(node.input) else None
        sizes = numpy_helper.to_array(given).ravel()[:_MOST_AXES] if given is not None else ()
        if math.prod(max(1.0, abs(float(each))) for each in sizes) > _MOST_VALUES:
            yield f"its operator {node.op_type} makes a tensor of more than {_MOST_VALUES:,} values"
