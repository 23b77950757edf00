"""Descriptors of recordings for models without anything deep: statistics of the bands and of the cepstrum over time.

They are computed by torch, so that a model which reads them is a network like another: kept, served and exported.
"""

import math

import torch
from torch import Tensor

_COEFFICIENTS = 20


def bands(maps: Tensor) -> Tensor:
    """float32 (N, 1, frames, mels) in [0, 255] to (N, 3 · mels): of each band the mean, the standard deviation, and the
    mean size of a step from frame to frame, where 1 is the range of the map."""
    return _over_time(maps[:, 0] / 255)


def cepstrum(maps: Tensor) -> Tensor:
    """The same of the first 20 mel-frequency cepstral coefficients (Davis and Mermelstein 1980), float32 (N, 60)."""
    return _over_time(maps[:, 0] / 255 @ cosines(maps.shape[3], maps.device))


def cosines(mels: int, device: torch.device) -> Tensor:
    """float32 (mels, coefficients): the first waves of the orthonormal discrete cosine transform of type II."""
    position, order = torch.arange(mels) + 0.5, torch.arange(min(_COEFFICIENTS, mels))
    waves = torch.cos(math.pi / mels * position[:, None] * order) * math.sqrt(2 / mels)
    waves[:, 0] /= math.sqrt(2)
    return waves.to(device)


def _over_time(values: Tensor) -> Tensor:
    steps = (values[:, 1:] - values[:, :-1]).abs().mean(dim=1)
    return torch.cat([values.mean(dim=1), values.std(dim=1, correction=0), steps], dim=1)
