"""`ensemble/<architectures>`: several networks, whose probabilities, or numbers, are averaged.

Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles",
NeurIPS 2017.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

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
    in the average.

    Networks with equal stages, such as two heads on a source as it is, compute them once.
    """

    temperatures: Tensor
    weights: Tensor

    def __init__(
        self,
        networks: Sequence[Network],
        temperatures: Sequence[float],
        inputs: Sequence[Renormalised],
        weights: Sequence[float],
        architectures: Sequence[str],
    ) -> None:
        super().__init__()
        self._architectures = tuple(architectures)
        self._alike = list(range(len(networks)))
        """for each network the first one that computes the same feature vectors where nothing trains"""
        self.networks = nn.ModuleList(networks)
        self.numbers = networks[0].head.out_features == 1
        self.inputs = nn.ModuleList(inputs)
        self.register_buffer("temperatures", torch.tensor(temperatures, dtype=torch.float32))
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_load_state_dict_post_hook(_compare)

    def forward(self, x: Inputs) -> Tensor:
        """Map inputs to the logarithms (N, K) of the mean probabilities, of independent labels to the logits of these,
        or to the mean number (N, 1)."""
        results = self._results(x)
        if self.numbers:
            return (torch.stack(results) * self.weights[:, None, None]).sum(dim=0)
        members = [each / temperature for each, temperature in zip(results, self.temperatures, strict=True)]
        if self.networks[0].independent:
            logits = torch.stack(members)
            weights = torch.log(self.weights)[:, None, None]
            has, lacks = (torch.logsumexp(F.logsigmoid(each) + weights, dim=0) for each in (logits, -logits))
            return has - lacks
        logs = torch.stack([torch.log_softmax(each, dim=1) for each in members])
        return torch.logsumexp(logs + torch.log(self.weights)[:, None, None], dim=0)

    @property
    def pairs(self) -> list[tuple[Network, Renormalised]]:
        """Each network and how its input is normalised."""
        return list(
            zip(cast("Iterable[Network]", self.networks), cast("Iterable[Renormalised]", self.inputs), strict=True)
        )

    def _results(self, x: Inputs) -> list[Tensor]:
        """The logits (N, K), or the number (N, 1), of each network."""
        # Of a state that is loaded to train on, networks are alike only until the first step.
        alike = range(len(self.networks)) if self.training else self._alike
        vectors: dict[int, Tensor] = {}
        results = []
        for (network, own), first in zip(self.pairs, alike, strict=True):
            if first not in vectors:
                vectors[first] = network.features(own(x))
            results.append(network.classify(vectors[first]))
        return results

    def train(self, mode: bool = True) -> "Members":
        """Set training or eval mode; networks that train may differ afterwards."""
        if mode:
            self._alike = list(range(len(self.networks)))
        super().train(mode)
        return self

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Members of older ensembles had equal weights.
        super()._load_from_state_dict({f"{prefix}weights": self.weights, **state}, prefix, *rest)


def _compare(members: Members, _: Any) -> None:
    """Note which networks of one architecture have equal stages and inputs, now that their state is loaded."""
    if not members._architectures:
        return
    parts = [
        (name, nn.ModuleList([network.stages, own]).state_dict())
        for name, (network, own) in zip(members._architectures, members.pairs, strict=True)
    ]
    members._alike = [next(first for first, part in enumerate(parts) if _are_equal(part, each)) for each in parts]


def _are_equal(one: tuple[str, Mapping[str, Tensor]], other: tuple[str, Mapping[str, Tensor]]) -> bool:
    (name, ours), (same, theirs) = one, other
    return name == same and ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def ensemble(
    networks: Sequence[Network],
    temperatures: Sequence[float],
    inputs: Sequence[Renormalised] | None = None,
    weights: Sequence[float] | None = None,
    architectures: Sequence[str] = (),
) -> Network:
    """Return a network of one stage and a head that is the identity: its features are already the logarithms of the
    mean calibrated probabilities, by `weights` that add up to 1 or equal ones, so softmax gives these back; of networks
    of independent labels their logits, and of those that answer with a number the mean number.

    `architectures` are the names by which the networks were built, of which a state that is loaded may make some equal.
    """
    inputs = inputs or [Renormalised() for _ in networks]
    members = Members(networks, temperatures, inputs, weights or [1 / len(networks)] * len(networks), architectures)
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
