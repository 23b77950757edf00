"""The λ R(w) of the objective: what keeps a model with many weights and few samples from forgetting or overfitting.

Each function takes the network as it starts, with the source's weights, and returns the penalty λ R(w) that training
adds to the loss. Only weights that are trained take part; a frozen weight adds a constant.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.models.network import Network
from headstart.training.penalty import Penalty


def l2(network: Network, strength: float) -> Penalty:
    """R(w) = ‖w‖²: ridge, or weight decay (Krogh and Hertz 1991)."""

    def penalty(network: Network, inputs: Tensor, outputs: Sequence[Tensor], start: int) -> Tensor:
        return strength * sum_of_squares(_trained(network))

    return penalty


def l2_sp(network: Network, strength: float) -> Penalty:
    """R(w) = ‖w_S − w_source‖² + ‖w_N‖² with w_S the transferred weights, the stages, and w_N the new ones, the head.

    L2-SP, Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks",
    ICML 2018, with both of its strengths equal.
    """
    source = {name: parameter.detach().clone() for name, parameter in network.stages.named_parameters()}

    def penalty(network: Network, inputs: Tensor, outputs: Sequence[Tensor], start: int) -> Tensor:
        trained = {name: p for name, p in network.stages.named_parameters() if p.requires_grad}
        moved = sum_of_squares(list(trained.values()), [source[name] for name in trained])
        return strength * (moved + sum_of_squares(_trained(network.head)))

    return penalty


def delta(network: Network, strength: float) -> Penalty:
    """R(w) = Σ_j mean over the batch of ‖FM_j(x; w) − FM_j(x; w_source)‖² / (positions of FM_j) + ‖w_N‖².

    FM_j is the feature map that stage j makes of the same augmented input, j from the first stage that trains on, and
    w_N the head: the behaviour is held, and the weights may move. DELTA, Li et al., "DELTA: deep learning transfer
    using feature map with attention for convolutional networks", ICLR 2019, section 3, with both of its strengths equal
    and all channels alike. The paper weighs channels by the loss that the removal of each costs: one forward pass a
    channel, 960 for the four blocks of a ResNet-18, is more than a whole fine-tuning on few samples takes.

    A step costs one more forward pass, without gradients, through a copy of these stages in eval mode.
    """
    frozen = network.frozen_stages
    source = copy.deepcopy(network.stages[frozen:]).requires_grad_(False).eval()

    def penalty(network: Network, inputs: Tensor, outputs: Sequence[Tensor], start: int) -> Tensor:
        distance = sum_of_squares(_trained(network.head))
        expected = outputs[frozen - start - 1] if frozen > start else inputs
        for stage, ours in zip(source, outputs[frozen - start :], strict=False):
            with torch.no_grad():
                expected = stage(expected)
            if ours.requires_grad:
                channels = ours.shape[1] if ours.ndim == 4 else ours.shape[-1]
                distance = distance + channels * F.mse_loss(ours.float(), expected.float())
        return strength * distance

    return penalty


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


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


REGULARIZERS: dict[str, Callable[[Network, float], Penalty]] = {"l2": l2, "l2_sp": l2_sp, "delta": delta}
