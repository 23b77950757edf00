"""The λ R(w) of the objective: what keeps a model with many weights and few samples from forgetting or overfitting.

Each function returns a penalty: a callable that takes the network and gives λ R(w) as a scalar tensor. Only weights
that are trained take part; a frozen weight adds a constant.
"""

from collections.abc import Callable

import torch
from torch import nn

Penalty = Callable[[nn.Module], torch.Tensor]


def l2(network: nn.Module, strength: float) -> Penalty:
    """R(w) = ‖w‖²: ridge, or weight decay (Krogh and Hertz 1991)."""

    def penalty(network: nn.Module) -> torch.Tensor:
        return strength * sum_of_squares([p for p in network.parameters() if p.requires_grad])

    return penalty


def l2_sp(network: nn.Module, strength: float) -> Penalty:
    """R(w) = ‖w_S − w_source‖² + ‖w_N‖² with w_S the transferred weights, the stages, and w_N the new ones, the head.

    L2-SP, Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks",
    ICML 2018, with both of its strengths equal. `network` holds the source's weights when this is called.
    """
    start = {
        name: parameter.detach().clone()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not name.startswith("head.")
    }

    def penalty(network: nn.Module) -> torch.Tensor:
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        return strength * sum_of_squares([p - start[n] if n in start else p for n, p in trained.items()])

    return penalty


def sum_of_squares(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Σ ‖t‖² over `tensors`, a scalar."""
    return torch.stack([tensor.float().square().sum() for tensor in tensors]).sum()


REGULARIZERS: dict[str, Callable[[nn.Module, float], Penalty]] = {"l2": l2, "l2_sp": l2_sp}
