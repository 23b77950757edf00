"""l1: R(w) = Σ |w| (Tibshirani 1996)."""

import torch
from torch import Tensor

from headstart.models.network import Network
from headstart.strategies.regularizer import Regularizer
from headstart.training.penalty import Penalty, trained_weights


def l1(network: Network, strength: float) -> Penalty:
    def penalty(network: Network, *_: object) -> Tensor:
        return strength * torch.stack([weight.abs().sum() for weight in trained_weights(network)]).sum()

    return penalty


REGULARIZER = Regularizer(l1)
