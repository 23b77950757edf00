"""delta: R(w) = Σ_j mean over the batch of ‖FM_j(x; w) − FM_j(x; w_source)‖² / (positions of FM_j) + ‖w_N‖².

FM_j is the feature map that stage j makes of the same augmented input, j from the first stage that trains on, and w_N
the head: the behaviour is held, and the weights may move. DELTA, Li et al., "DELTA: deep learning transfer using
feature map with attention for convolutional networks", ICLR 2019, section 3, with both of its strengths equal and all
channels alike. The paper weighs channels by the loss that the removal of each costs: one forward pass a channel, 960
for the four blocks of a ResNet-18, is more than a whole fine-tuning on few samples takes.

A step costs one more forward pass, without gradients, through a copy of these stages in eval mode.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities.batch import Inputs, values_of
from headstart.models.network import Network
from headstart.strategies.regularizer import Regularizer
from headstart.training.penalty import Penalty, sum_of_squares, trained_weights


def delta(network: Network, strength: float) -> Penalty:
    frozen = network.frozen_stages
    source = copy.deepcopy(network.stages[frozen:]).requires_grad_(False).eval()

    def penalty(network: Network, inputs: Inputs, outputs: Sequence[Inputs], start: int) -> Tensor:
        distance = sum_of_squares(trained_weights(network.head))
        expected = outputs[frozen - start - 1] if frozen > start else inputs
        for stage, ours in zip(source, outputs[frozen - start :], strict=False):
            with torch.no_grad():
                expected = stage(expected)
            for own, other in zip(values_of(ours), values_of(expected), strict=True):
                if own.requires_grad:
                    channels = own.shape[1] if own.ndim == 4 else own.shape[-1]
                    distance = distance + channels * F.mse_loss(own.float(), other.float())
        return strength * distance

    return penalty


REGULARIZER = Regularizer(delta)
