"""Kaldi's logarithmic mel filter bank by operations of torch: what audio spectrogram transformers read.

Frames of 25 ms every 10 ms at 16 kHz; of each, its mean is taken out, high frequencies are raised by 0.97, a Hann
window and a Fourier transform of 512 samples follow, and triangles that are even on the mel scale 1127 ln(1 + f / 700)
from 20 Hz to half the rate add up its power. All before the power is linear, and so one product of matrices; it is
computed in double precision, since quiet bands beside loud ones would drown in the rounding of single precision.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities.batch import doubled

WINDOW, HOP, TRANSFORM = 400, 160, 512
RATE = 16000
_LOWEST, _RAISED = 20.0, 0.97
_FLOOR = 1.192092955078125e-07  # the smallest step of float32 from 1, as Kaldi has it


def frames_of(samples: Tensor) -> Tensor:
    """The number of whole frames of waveforms of so many samples, int64; at least one, as silence follows them."""
    return ((samples - WINDOW) // HOP + 1).clamp(min=1)


def filter_bank(wave: Tensor, mels: int, frames: int) -> Tensor:
    """The first `frames` frames, of which silence makes up what is missing, float32 (N, frames, mels), of waveforms
    (N, L) in [-1, 1]."""
    needed = WINDOW + HOP * (frames - 1)
    padded = F.pad(wave, (0, needed))[:, :needed]
    return every_frame(padded, mels)


def every_frame(wave: Tensor, mels: int) -> Tensor:
    """Every whole frame of waveforms (N, L) in [-1, 1], L at least 400, float32 (N, frames, mels)."""
    samples = doubled(wave)
    starts = HOP * torch.arange((wave.shape[1] - WINDOW) // HOP + 1, device=samples.device)
    # By places, and not by unfold: exported programs cannot prove for any length what its strides ask for.
    windows = samples[:, starts[:, None] + torch.arange(WINDOW, device=samples.device)]
    spectrum = windows @ torch.from_numpy(_transform()).to(samples.device)
    real, imaginary = spectrum.chunk(2, dim=2)
    power = (real.square() + imaginary.square()) @ torch.from_numpy(_bank(mels)).to(samples.device)
    return power.clamp(min=_FLOOR).log().float().to(wave.device)


# Arrays: tensors that are made while a program is exported hold no values.
@lru_cache(maxsize=1)
def _transform() -> np.ndarray:
    """float64 (400, 2 · 257): real parts, then imaginary ones."""
    identity = np.eye(WINDOW)
    centred = identity - identity.mean(axis=1, keepdims=True)
    raised = centred.copy()
    raised[:, 1:] -= _RAISED * centred[:, :-1]
    raised[:, 0] *= 1 - _RAISED
    windowed = raised * np.hanning(WINDOW)
    found = np.fft.rfft(windowed, TRANSFORM)
    return np.concatenate([found.real, found.imag], axis=1)


@lru_cache(maxsize=8)
def _bank(mels: int) -> np.ndarray:
    """float64 (257, mels): the share of each bin's power in each band; triangles in mel, not in Hz."""
    lowest, highest = _mel(np.array([_LOWEST, RATE / 2]))
    edges = np.linspace(lowest, highest, mels + 2)
    bins = _mel(np.arange(TRANSFORM // 2 + 1) * (RATE / TRANSFORM))[:, None]
    up = (bins - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - bins) / np.diff(edges)[1:]
    bank: np.ndarray = np.maximum(0, np.minimum(up, down))
    return bank


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127 * np.log(1 + hertz / 700)
