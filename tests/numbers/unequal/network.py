"""numbernet: a small network over vectors of unequal length, which looks at neighbours and pools what is no padding."""

import torch
from torch import nn

from headstart.modalities.batch import Batch
from headstart.models.architectures import Architecture
from headstart.models.network import Network, linear_head

_WIDTH = 24


class Lift(nn.Module):
    """Each number with the step to it: (N, L) to (N, L, width)."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, _WIDTH)

    def forward(self, batch):
        values = batch["values"]
        step = values - torch.cat([values[:, :1], values[:, :-1]], dim=1)
        lifted = torch.relu(self.linear(torch.stack([values, step], dim=2)))
        return Batch({"values": lifted * batch["kept"].unsqueeze(2), "kept": batch["kept"]})


class Mix(nn.Module):
    """A residual convolution along the vector."""

    def __init__(self):
        super().__init__()
        self.along = nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2)
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, batch):
        values, kept = batch["values"], batch["kept"].unsqueeze(2)
        mixed = torch.relu(self.along(values.transpose(1, 2)).transpose(1, 2))
        return Batch({"values": self.norm(values + mixed) * kept, "kept": batch["kept"]})


class Pool(nn.Module):
    """The mean and the maximum over what is no padding: (N, 2 · width)."""

    def forward(self, batch):
        values, kept = batch["values"], batch["kept"].unsqueeze(2)
        mean = (values * kept).sum(1) / kept.sum(1).clamp(min=1)
        return torch.cat([mean, values.masked_fill(~kept, -1e4).amax(1)], dim=1)


def numbernet(*, classes, channels=1):
    return Network([Lift(), Mix(), nn.Sequential(Mix(), Pool())], linear_head(2 * _WIDTH, classes))


ARCHITECTURE = Architecture(numbernet, reads="sequences")
