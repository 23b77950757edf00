"""`ensemble/<architectures>`: several networks, whose probabilities, or numbers, are averaged.

Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles",
NeurIPS 2017.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.modalities.batch import Inputs
from headstart.modalities.preprocessing import Preprocessing
from headstart.models.architectures import ENSEMBLE, JOINED
from headstart.models.network import Network, identity_head

# Values that tell how a member normalises its input: a factor and a summand for each of its channels or bands.
_MOST_VALUES = 1_000_000


class Renormalised(nn.Module):
    """The ensemble's input as a member's preprocessing would give it: `factor` · x + `summand`, or x itself."""

    factor: Tensor
    summand: Tensor

    def __init__(self, factor: Tensor | None = None, summand: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()) if factor is None else factor)
        self.register_buffer("summand", torch.zeros(()) if summand is None else summand)

    def forward(self, x: Inputs) -> Inputs:
        if not self.factor.ndim:
            return x
        assert isinstance(x, Tensor)  # noqa: S101 (only preprocessing that gives one tensor is renormalised)
        return x * self.factor + self.summand

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # The modality alone knows these shapes, and the members of older ensembles had none.
        for name in ("factor", "summand"):
            given = state.get(f"{prefix}{name}")
            if given is None:
                state = {**state, f"{prefix}{name}": getattr(self, name)}
            elif given.numel() <= _MOST_VALUES:
                setattr(self, name, torch.empty_like(given))
        super()._load_from_state_dict(state, prefix, *rest)


class Members(nn.Module):
    """The networks, how each one's input is normalised, the temperature by which its logits are divided, and its weight
    in the average."""

    temperatures: Tensor
    weights: Tensor

    def __init__(
        self,
        networks: Sequence[Network],
        temperatures: Sequence[float],
        inputs: Sequence[Renormalised],
        weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.numbers = networks[0].head.out_features == 1
        self.inputs = nn.ModuleList(inputs)
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, x: Inputs) -> Tensor:
        """Map inputs to the logarithms (N, K) of the mean probabilities, of independent labels to the logits of these,
        or to the mean number (N, 1)."""
        if self.numbers:
            numbers = torch.stack([network(own(x)) for network, own in zip(self.networks, self.inputs, strict=True)])
            return (numbers * self.weights[:, None, None]).sum(dim=0)
        members = zip(self.networks, self.inputs, self.temperatures, strict=True)
        if self.networks[0].independent:
            logits = torch.stack([network(own(x)) / temperature for network, own, temperature in members])
            weights = torch.log(self.weights)[:, None, None]
            has, lacks = (torch.logsumexp(F.logsigmoid(each) + weights, dim=0) for each in (logits, -logits))
            return has - lacks
        logs = torch.stack(
            [torch.log_softmax(network(own(x)) / temperature, dim=1) for network, own, temperature in members]
        )
        return torch.logsumexp(logs + torch.log(self.weights)[:, None, None], dim=0)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Members of older ensembles had equal weights.
        super()._load_from_state_dict({f"{prefix}weights": self.weights, **state}, prefix, *rest)


def ensemble(
    networks: Sequence[Network],
    temperatures: Sequence[float],
    inputs: Sequence[Renormalised] | None = None,
    weights: Sequence[float] | None = None,
) -> Network:
    """Return a network of one stage and a head that is the identity: its features are already the logarithms of the
    mean calibrated probabilities, by `weights` that add up to 1 or equal ones, so softmax gives these back; of networks
    of independent labels their logits, and of those that answer with a number the mean number."""
    inputs = inputs or [Renormalised() for _ in networks]
    members = Members(networks, temperatures, inputs, weights or [1 / len(networks)] * len(networks))
    head = networks[0].head
    network = Network([members], identity_head(head.out_features).to(head.weight.device))
    if networks[0].scale is not None:
        network.measure(0.0, 1.0)
    if networks[0].independent:
        network.label()
    return network


def renormalised(ours: Preprocessing, theirs: Preprocessing) -> Renormalised | None:
    """What turns the result of `ours` into that of `theirs`; None where they read samples differently."""
    if ours.to_dict() == theirs.to_dict():
        return Renormalised()
    turned = ours.turned_into(theirs)
    return None if turned is None else Renormalised(*turned)


def ensemble_name(architectures: Sequence[str]) -> str:
    """The name of the architecture of networks of these architectures."""
    if len(set(architectures)) == 1:
        return f"{ENSEMBLE}{len(architectures)}/{architectures[0]}"
    return ENSEMBLE + JOINED.join(architectures)
