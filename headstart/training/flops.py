"""Floating-point operations of matrix products and convolutions; a multiplication and its addition are two."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from headstart.data.dataset import Dataset
from headstart.modalities.batch import Inputs
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network, evaluated


def step_flops(network: Network, example: Inputs, start: int) -> int:
    """The operations of a training step on `example`, the inputs of stage `start`.

    One row is computed forward. Backward counts as twice forward, whose products it has two of each of (torch's count
    of it takes a grouped convolution for a full one).
    """
    # In eval mode, where the products are the same: batch norms of several processes would wait for each other.
    with evaluated(network):
        forward, _ = count_flops(lambda: network.classify(network.activations(example[:1], start)[-1]))
    return 3 * len(example) * forward


def epoch_flops(bundle: ModelBundle, dataset: Dataset) -> float:
    """The operations of the gradient steps of an epoch that trains all stages on the training split."""
    train = dataset.split("train")
    device = bundle.network.head.weight.device
    example = bundle.preprocessing(dataset.kind.batch(train.samples[:1]).to(device))
    return float(step_flops(bundle.network, example, 0) * len(train.labels))


def count_flops(compute: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """The operations of `compute`, and its result."""
    # Without gradients a transformer's layer is one operation, which is not counted, and so is fused attention.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
        outputs = compute()
    return counter.operations, outputs


class _Counter(TorchDispatchMode):
    """Counts by torch's formulas, as `torch.utils.flop_counter.FlopCounterMode` does.

    That one imports torch's compiler, 800 modules, which takes 1 to 3 s; this one counts a small network in 6 ms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled within it; to make sure of that, torch would import its compiler.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula:
            self.operations += int(formula(*args, **kwargs, out_val=outputs))
        return outputs
