"""`int8/<architecture>`: a network of 8-bit whole numbers, as ONNX Runtime computes it.

Its one stage holds an ONNX file, which maps preprocessed samples to logits, as a tensor of bytes; so it is a bundle
like every model, in safetensors and without a pickle. Its features are already logits, which the head passes on. It
runs on the CPU and cannot be trained.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.errors import InputError, first_line
from headstart.modalities import modality
from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.preprocessing import Samples
from headstart.models.architectures import INT8
from headstart.models.bundle import ModelBundle
from headstart.models.int8 import quantized
from headstart.models.network import Network, identity_head
from headstart.models.onnx_check import check_graph
from headstart.models.onnx_graph import graph_of, require_onnx, session_of

CALIBRATION = 256
"""The most samples that tell the range of each layer's results."""
# A batch's samples; results of all layers are in memory.
_AT_ONCE = 32
_ONLY, _MASK, _LOGITS = "inputs", "mask", "logits"
# In the file's metadata: the fewest positions along the second axis that it reads.
_SHORTEST = "shortest"
# An operator that measures the range of a whole batch, so that a sample's answer would depend on its companions.
_OF_A_BATCH = "DynamicQuantizeLinear"


class Program(nn.Module):
    """An ONNX file as a module: preprocessed samples to logits (N, `width`), on the CPU.

    Where it measures ranges as it computes, each sample is computed alone and without its padding.
    """

    content: Tensor
    """the file, uint8 (bytes,); empty until a state is loaded"""

    def __init__(self, width: int, content: bytes = b"") -> None:
        super().__init__()
        self.width = width
        self.register_buffer("content", torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()))
        self.alone, self._shortest = False, 1
        self._session: tuple[int, Any] | None = None
        if content:
            self._read()

    def forward(self, x: Inputs) -> Tensor:
        tensors = dict(x.tensors) if isinstance(x, Batch) else {_ONLY: x}
        device = next(iter(tensors.values())).device
        arrays = {name: _array(each) for name, each in tensors.items()}
        if self.alone:
            rows = range(len(next(iter(arrays.values()))))
            found = np.concatenate([self._run(self._trimmed(arrays, row)) for row in rows])
        else:
            found = self._run(arrays)
        return torch.from_numpy(found).to(device)

    def _trimmed(self, arrays: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
        """One sample's arrays as a batch of one, as long as its mask says."""
        one = {name: each[row : row + 1] for name, each in arrays.items()}
        if _MASK not in one:
            return one
        length = max(self._shortest, int(np.flatnonzero(one[_MASK][0]).max(initial=0)) + 1)
        return {name: each[:, :length] for name, each in one.items()}

    def _run(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        threads = torch.get_num_threads()
        try:
            if self._session is None or self._session[0] != threads:
                self._session = threads, session_of(self.file, threads=threads)
            (found,) = self._session[1].run(None, arrays)
        # What a file may not hold, and what does not fit it, is told by many kinds of exceptions.
        except Exception as error:
            raise InputError(
                f"The network of 8-bit whole numbers cannot compute these samples ({first_line(error)}); its bundle is "
                "damaged or was made for others: take another version, or make it again."
            ) from error
        return np.asarray(found)

    @property
    def file(self) -> bytes:
        """The ONNX file."""
        return self.content.cpu().numpy().tobytes()

    def _read(self) -> None:
        require_onnx()
        graph = check_graph(self.file, self.width)
        facts = {each.key: each.value for each in graph.metadata_props}
        self.alone = any(node.op_type == _OF_A_BATCH for node in graph.graph.node)
        shortest = facts.get(_SHORTEST, "1")
        self._shortest = int(shortest) if shortest.isdecimal() and len(shortest) < 10 else 1
        self._session = None

    def __getstate__(self) -> dict[str, Any]:
        # A session can be neither copied nor sent to another process.
        return {**self.__dict__, "_session": None}

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # The file alone knows its length.
        given = state.get(f"{prefix}content")
        if given is not None:
            if given.dtype != torch.uint8 or given.ndim != 1:
                raise InputError(
                    "The network of 8-bit whole numbers is no file of bytes; copy the bundle again, or make it again."
                )
            self.content = torch.empty_like(given)
        super()._load_from_state_dict(state, prefix, *rest)
        if given is not None:
            self._read()


class _Logits(nn.Module):
    """A network as an exported program: the tensors of its inputs, by `names`, to logits."""

    def __init__(self, network: Network, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs = tensors[0] if self.names == (_ONLY,) else Batch(dict(zip(self.names, tensors, strict=True)))
        logits: Tensor = self.network(inputs)
        return logits


def int8_network(classes: int, content: bytes = b"") -> Network:
    """Return the network of an ONNX file that gives logits of so many classes."""
    return Network([Program(classes, content)], identity_head(classes))


def program_of(bundle: ModelBundle) -> Program | None:
    """Return the one stage of a bundle whose network is of 8-bit whole numbers; None for any other."""
    if not bundle.architecture.startswith(INT8):
        return None
    (program,) = bundle.network.stages
    assert isinstance(program, Program)  # noqa: S101 (the architecture says so)
    return program


def as_int8(bundle: ModelBundle, samples: Samples) -> ModelBundle:
    """Return the bundle with a network of 8-bit whole numbers in the place of its own; `samples`, stored ones, tell the
    range of each layer's results.

    The calibration stays the bundle's, and no tensor is shared.

    Raises:
        InputError: a package of the extra `onnx` is missing, the model knows no classes, or its network is of 8-bit
            whole numbers already.
        HeadstartError: PyTorch cannot export the network, or ONNX Runtime cannot quantize it.
    """
    bundle.require_head()
    require_onnx()
    if bundle.architecture.startswith(INT8):
        raise InputError(f"{bundle.architecture} is of 8-bit whole numbers already; leave it as it is.")
    here = replace(bundle, network=copy.deepcopy(bundle.network).cpu().eval())
    # The exporter treats a batch of one as a constant.
    tensors = _inputs(here, here.preprocessing.noise(2))
    proto = graph_of(_Logits(here.network, tuple(tensors)), here, tensors, _LOGITS)
    proto.metadata_props.add(key=_SHORTEST, value=str(here.preprocessing.shortest_input or 1))
    batches = [samples[start : start + _AT_ONCE] for start in range(0, len(samples), _AT_ONCE)]
    given = [{name: _array(each) for name, each in _inputs(here, batch).items()} for batch in batches]
    content = quantized(proto.SerializeToString(), given)
    classes = len(bundle.classes)
    network = int8_network(classes, content)
    if here.network.scale is not None:
        network.measure(0.0, 1.0)
    if here.network.independent:
        network.label()
    return replace(
        bundle,
        network=network.eval(),
        architecture=f"{INT8}{bundle.architecture}",
        provenance=copy.deepcopy(bundle.provenance),
    )


def _inputs(bundle: ModelBundle, samples: Any) -> dict[str, Tensor]:
    """What preprocessing makes of stored samples, by the names of the program's inputs."""
    inputs = bundle.preprocessing(modality(bundle.modality).batch(samples))
    return {_ONLY: inputs} if isinstance(inputs, Tensor) else dict(inputs.tensors)


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
