"""What a training adds to the loss: λ R(w)."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from headstart.models.network import Network


class Penalty(Protocol):
    """λ R(w) as a scalar tensor, in float32.

    It is given the network, the inputs of the first stage that trains (a micro-batch, preprocessed), the position
    `start` of that stage, and the outputs that `network.activations(inputs, start)` has for them.
    """

    def __call__(self, network: Network, inputs: Tensor, outputs: Sequence[Tensor], start: int) -> Tensor: ...
