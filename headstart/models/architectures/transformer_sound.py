"""`transformer_sound`: a pre-norm encoder of waveforms with four layers of width 128 (0.9 M parameters), which
trains on a CPU in minutes. It reads a filter bank of 64 bands, four frames of 10 ms at a time."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.modalities.batch import Batch
from headstart.modalities.waveform.filter_bank import HOP, WINDOW, every_frame, frames_of
from headstart.models.architectures import WAVES, Architecture
from headstart.models.network import Network, linear_head
from headstart.models.token_encoder import LastNorm, Layer, Pool, Shape, waves

_MELS, _JOINED = 64, 4
# About the mean and twice the deviation of the bands of speech.
_MEAN, _SCALE = -6.0, 8.0
_SHAPE = Shape(width=128, layers=4, heads=4, hidden=512)


class Frames(nn.Module):
    """`wave`, float32 (N, L), and `mask`, bool (N, L), to `states`, float32 (N, T, width), one for four frames of the
    filter bank, and their `mask`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.join = nn.Linear(_MELS * _JOINED, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, batch: Batch) -> Batch:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        count = frames_of(mask.sum(dim=1))
        bank = (every_frame(F.pad(wave, (0, WINDOW + HOP * _JOINED)), _MELS) - _MEAN) / _SCALE
        inside = torch.arange(bank.shape[1], device=wave.device) < count[:, None]
        first = _JOINED * torch.arange(bank.shape[1] // _JOINED, device=wave.device)
        places = first[:, None] + torch.arange(_JOINED, device=wave.device)
        states: Tensor = self.join((bank * inside.unsqueeze(2))[:, places].flatten(2))
        states = states + waves(torch.arange(states.shape[1], device=wave.device), states.shape[2])
        # The last, incomplete group is one too.
        kept = first < count[:, None]
        return Batch({"states": self.dropout(states), "mask": kept})


def transformer_sound(*, classes: int, channels: int) -> Network:
    """Five stages: frames of the filter bank, and four layers, the last of which pools."""
    layers = [Layer(_SHAPE) for _ in range(_SHAPE.layers)]
    parts: list[list[nn.Module]] = [[layer] for layer in layers]
    parts[-1] += [LastNorm(_SHAPE), Pool(_SHAPE.pool)]
    for layer in layers:
        for added in (layer.attention.output, layer.forward_block.down):
            nn.init.normal_(added.weight, std=0.02 / math.sqrt(2 * _SHAPE.layers))
            nn.init.zeros_(added.bias)
    stages = list(itertools.chain([Frames(_SHAPE)], (nn.Sequential(*part) for part in parts)))
    return Network(stages, linear_head(_SHAPE.width, classes), dropout=_SHAPE.dropout)


ARCHITECTURE = Architecture(transformer_sound, reads=WAVES)
