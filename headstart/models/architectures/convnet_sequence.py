"""`convnet_sequence`: a residual network of dilated convolutions along a sequence (69 000 parameters and 48 for each
token), which learns sequences of some hundred letters on a CPU in a minute.

Its blocks keep the resolution, as those of GPN (Benegas, Batra and Song 2023, "DNA language models are powerful
predictors of genome-wide variant effects"). Dilations of 1, 3, 9 and 27 see 165 letters, and keep a codon's phase: why
that matters is in docs/studies/convnet_sequence.md.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.modalities.batch import Batch
from headstart.models.architectures import TOKENS, Architecture
from headstart.models.network import Network, linear_head
from headstart.models.token_encoder import Pool, TokenEmbedding

_WIDTH, _KERNEL, _DILATIONS, _DROPOUT = 48, 5, (1, 3, 9, 27), 0.1
# Letters differ from the start as much as what a batch norm gives.
_DEVIATION = 0.5


def normalised(norm: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
    """States (N, L, C) after a batch norm, whose statistics in training are those of the tokens alone, (M, C)."""
    if not norm.training:
        whole: Tensor = norm(states.transpose(1, 2))
        return whole.transpose(1, 2)
    found: Tensor = norm(states[mask])
    return torch.zeros_like(states, dtype=found.dtype).masked_scatter(mask.unsqueeze(2), found)


class Convolution(nn.Module):
    """A convolution along `states`, (N, L, C), which sees 0 where there is no token."""

    def __init__(self, width: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.weights = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.weights((states * mask.unsqueeze(2)).transpose(1, 2))
        return found.transpose(1, 2)


class Stem(nn.Module):
    """A convolution: `states` and `mask` to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Convolution(_WIDTH, _KERNEL)

    def forward(self, batch: Batch) -> Batch:
        mask = batch.tensors["mask"]
        return Batch({"states": self.convolution(batch.tensors["states"], mask), "mask": mask})


class Block(nn.Module):
    """A dilated convolution and one of each token alone, beside a shortcut (pre-activation, He et al. 2016): `states`
    and `mask` to the same."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(_WIDTH), nn.BatchNorm1d(_WIDTH)])
        self.wide, self.narrow = Convolution(_WIDTH, _KERNEL, dilation), nn.Linear(_WIDTH, _WIDTH)

    def forward(self, batch: Batch) -> Batch:
        states, mask = batch.tensors["states"], batch.tensors["mask"]
        first, second = self.norms
        found = self.wide(F.gelu(normalised(first, states, mask)), mask)
        found = self.narrow(F.gelu(normalised(second, found, mask)))
        return Batch({"states": states + found, "mask": mask})


class LastActivation(nn.Module):
    """The norm and the activation after the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(_WIDTH)

    def forward(self, batch: Batch) -> Batch:
        mask = batch.tensors["mask"]
        return Batch({"states": F.gelu(normalised(self.norm, batch.tensors["states"], mask)), "mask": mask})


def convnet_sequence(*, classes: int, channels: int) -> Network:
    """Five stages: the embedding of `channels` tokens with a first convolution, and four blocks of width 48."""
    embedding = TokenEmbedding(channels, _WIDTH)
    nn.init.normal_(embedding.tokens.weight, std=_DEVIATION)
    blocks = [nn.Sequential(Block(dilation)) for dilation in _DILATIONS]
    blocks[-1].extend([LastActivation(), Pool("mean")])
    return Network([nn.Sequential(embedding, Stem()), *blocks], linear_head(_WIDTH, classes), dropout=_DROPOUT)


ARCHITECTURE = Architecture(convnet_sequence, reads=TOKENS)
