"""The λ R(w) that a regulariser adds to the loss."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from headstart.modalities.batch import Inputs
from headstart.models.network import Network


class Penalty(Protocol):
    """Compute λ R(w) as a scalar tensor, in float32.

    The arguments are the network, the inputs of the first stage that trains (a micro-batch, preprocessed), the outputs
    that `network.activations(inputs, start)` has for them, and the position `start` of that stage.
    """

    def __call__(self, network: Network, inputs: Inputs, outputs: Sequence[Inputs], start: int) -> Tensor: ...


def trained_weights(module: nn.Module) -> list[Tensor]:
    """The parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def sum_of_squares(tensors: Sequence[Tensor], centres: Sequence[Tensor] = ()) -> Tensor:
    """Σ ‖t − c‖² over `tensors` and their `centres`, by default 0, as a scalar in float32."""
    if not tensors:
        return torch.zeros(())
    total: Tensor = _SumOfSquares.apply(len(tensors), *tensors, *centres)
    return total


class _SumOfSquares(torch.autograd.Function):
    """Few kernels whatever the number of tensors: autograd alone would keep three nodes for each of them."""

    @staticmethod
    def forward(ctx: Any, count: int, *values: Tensor) -> Tensor:
        tensors, centres = list(values[:count]), list(values[count:])
        away = torch._foreach_sub(tensors, centres) if centres else tensors
        ctx.save_for_backward(*away)
        ctx.centres = len(centres)
        norms = torch._foreach_norm(away)
        return torch.stack(norms).float().square().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = torch._foreach_mul(list(ctx.saved_tensors), 2 * gradient)
        return (None, *gradients, *[None] * ctx.centres)
