"""Descriptors of recordings for models without anything deep: statistics of the bands and of the cepstrum over time."""

import numpy as np

_COEFFICIENTS = 20


def bands(samples: np.ndarray) -> np.ndarray:
    """uint8 (N, frames, mels, 1) to float32 (N, 3 · mels): of each band the mean, the standard deviation, and the mean
    size of a step from frame to frame, where 1 is the range of the map."""
    return _over_time(samples[..., 0].astype(np.float32) / 255)


def cepstrum(samples: np.ndarray) -> np.ndarray:
    """The same of the first 20 mel-frequency cepstral coefficients (Davis and Mermelstein 1980), float32 (N, 60)."""
    from scipy.fft import dct

    coefficients = dct(samples[..., 0].astype(np.float32) / 255, axis=2, norm="ortho")
    return _over_time(coefficients[:, :, :_COEFFICIENTS])


def _over_time(values: np.ndarray) -> np.ndarray:
    steps = np.abs(np.diff(values, axis=1)).mean(axis=1)
    return np.concatenate([values.mean(axis=1), values.std(axis=1), steps], axis=1)
