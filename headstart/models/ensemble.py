"""`ensemble/<count>/<architecture>`: several networks of one architecture, whose probabilities are averaged.

Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles",
NeurIPS 2017.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headstart.modalities.batch import Inputs
from headstart.models.architectures import ENSEMBLE
from headstart.models.network import Network


class Members(nn.Module):
    """The networks, and the temperature by which each one's logits are divided."""

    temperatures: Tensor

    def __init__(self, networks: Sequence[Network], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))

    def forward(self, x: Inputs) -> Tensor:
        """Map inputs to the logarithms (N, K) of the mean probabilities."""
        members = zip(self.networks, self.temperatures, strict=True)
        logs = torch.stack([torch.log_softmax(network(x) / temperature, dim=1) for network, temperature in members])
        return torch.logsumexp(logs, dim=0) - math.log(len(self.networks))


def ensemble(networks: Sequence[Network], temperatures: Sequence[float]) -> Network:
    """Return a network of one stage and a head that is the identity: its features are already the logarithms of the
    mean calibrated probabilities, so softmax gives these back."""
    classes = networks[0].head.out_features
    head = nn.Linear(classes, classes)
    with torch.no_grad():
        head.weight.copy_(torch.eye(classes))
        head.bias.zero_()
    return Network([Members(networks, temperatures)], head.to(networks[0].head.weight.device))


def ensemble_name(architecture: str, count: int) -> str:
    """The name of the architecture of `count` networks of `architecture`."""
    return f"{ENSEMBLE}{count}/{architecture}"
