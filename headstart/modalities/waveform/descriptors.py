"""Descriptors of waveforms for models without anything deep: those of `audio`, of the bands of a filter bank.

They are computed by torch, so that a model which reads them is a network like another: kept, served and exported.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities.audio.descriptors import cosines
from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.waveform.filter_bank import WINDOW, every_frame, frames_of

_MELS = 64


def bands(inputs: Inputs) -> Tensor:
    """`wave`, float32 (N, L), and `mask`, bool (N, L), to (N, 192): of the logarithm of each of 64 bands the mean over
    the recording's frames, the standard deviation, and the mean size of a step from frame to frame."""
    return _over_time(*_frames(inputs))


def cepstrum(inputs: Inputs) -> Tensor:
    """The same of the first 20 mel-frequency cepstral coefficients (Davis and Mermelstein 1980), float32 (N, 60)."""
    values, kept = _frames(inputs)
    return _over_time(values @ cosines(_MELS, values.device), kept)


def _frames(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logarithms of bands, float32 (N, T, 64), and which frames are the recording's, bool (N, T)."""
    assert isinstance(inputs, Batch)  # noqa: S101 (the modality's own)
    wave, mask = inputs.tensors["wave"], inputs.tensors["mask"]
    values = every_frame(F.pad(wave, (0, WINDOW)), _MELS)
    count = frames_of(mask.sum(dim=1))
    return values, torch.arange(values.shape[1], device=wave.device) < count[:, None]


def _over_time(values: Tensor, kept: Tensor) -> Tensor:
    share = (kept / kept.sum(dim=1, keepdim=True)).unsqueeze(2)
    mean = (values * share).sum(dim=1)
    deviation = ((values - mean[:, None]).square() * share).sum(dim=1).sqrt()
    steps = ((values[:, 1:] - values[:, :-1]).abs() * share[:, 1:]).sum(dim=1)
    return torch.cat([mean, deviation, steps], dim=1)
