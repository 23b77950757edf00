"""Whisper's logarithmic mel spectrogram by operations of torch.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision": frames of 25 ms around every 10 ms at
16 kHz, a periodic Hann window, and triangles that are even on Slaney's mel scale up to 8 kHz, each of area one. Of the
decimal logarithm, what lies more than 8 below the recording's largest value is raised to there. It is computed in
double precision, as the filter bank of audio spectrogram transformers is (filter_bank.py beside this).
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities.batch import doubled
from headstart.modalities.waveform.filter_bank import HOP, RATE, WINDOW

_FLOOR, _RANGE = 1e-10, 8.0
# Slaney's scale: linear up to 1 kHz, logarithmic above.
_KNEE_HZ, _HZ_A_MEL = 1000.0, 200.0 / 3
_LOG_STEP = math.log(6.4) / 27


def log_mel(wave: Tensor, mels: int, frames: int) -> Tensor:
    """float32 (N, mels, frames), about -1 to 1.5, of waveforms (N, L) in [-1, 1], which silence fills up to `frames`
    hops or which end there."""
    length = HOP * frames
    samples = doubled(F.pad(wave, (0, length))[:, :length])
    places = HOP * torch.arange(frames)[:, None] + torch.arange(WINDOW) - WINDOW // 2
    # Mirrored at both ends.
    places = (length - 1) - ((length - 1) - places.abs()).abs()
    spectrum = samples[:, places.to(samples.device)] @ torch.from_numpy(_transform()).to(samples.device)
    real, imaginary = spectrum.chunk(2, dim=2)
    power = (real.square() + imaginary.square()) @ torch.from_numpy(_bank(mels)).to(samples.device)
    levels = power.clamp(min=_FLOOR).log10().transpose(1, 2)
    levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - _RANGE)
    return ((levels + 4) / 4).float().to(wave.device)


@lru_cache(maxsize=1)
def _transform() -> np.ndarray:
    """float64 (400, 2 · 201): real parts, then imaginary ones."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    found = np.fft.rfft(np.diag(window))
    return np.concatenate([found.real, found.imag], axis=1)


@lru_cache(maxsize=8)
def _bank(mels: int) -> np.ndarray:
    """float64 (201, mels): the share of each bin's power in each band; triangles in Hz."""
    knee = _KNEE_HZ / _HZ_A_MEL
    edges = np.linspace(0, knee + math.log(RATE / 2 / _KNEE_HZ) / _LOG_STEP, mels + 2)
    hertz = np.where(edges < knee, edges * _HZ_A_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (edges - knee)))
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    up = (bins - hertz[:-2]) / np.diff(hertz)[:-1]
    down = (hertz[2:] - bins) / np.diff(hertz)[1:]
    bank: np.ndarray = np.maximum(0, np.minimum(up, down)) * (2 / (hertz[2:] - hertz[:-2]))
    return bank
