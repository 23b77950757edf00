"""The loss of each task, L(y, f(x; w)).

Of classes it is the cross-entropy, which trainings smooth and weigh. Of numbers it is Huber's loss of the error in
standard deviations of the training labels, whose few outliers so do not outweigh all others (Huber 1964, "Robust
estimation of a location parameter"): r²/2 up to |r| = 1, and |r| - 1/2 beyond. Of several labels it is the sum of the
binary cross-entropies of those that are known.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.models.network import Network


def losses(logits: Tensor, labels: Tensor, network: Network) -> Tensor:
    """The loss of each sample (N,) by the network's logits (N, L). Classes have labels int (N,), numbers float (N,),
    and several labels int (N, L): 1, 0, or -1 for not known."""
    if network.independent:
        each = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), reduction="none")
        return (each * (labels >= 0)).sum(dim=1)
    if network.scale is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return F.huber_loss(logits[:, 0] / network.scale, labels / network.scale, reduction="none")


def held_out_loss(logits: np.ndarray, labels: np.ndarray, network: Network) -> float:
    """The mean loss of held-out samples."""
    if network.independent:
        return float(losses(torch.from_numpy(logits), torch.from_numpy(labels), network).mean())
    if network.scale is None:
        return float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    device = network.head.weight.device
    given = torch.from_numpy(labels.astype(np.float32))
    return float(losses(torch.from_numpy(logits).to(device), given.to(device), network).mean())
