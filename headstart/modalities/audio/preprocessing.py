"""Preprocessing: stored log-mel maps become the normalised inputs of a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.errors import InputError
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.batch import Inputs
from headstart.modalities.preprocessing import Preprocessing, Samples, renormalisation

_READ = 256  # samples that are in memory at a time


@dataclass(frozen=True)
class LogMel(Preprocessing):
    """How recordings become maps, and each band's mean and standard deviation in stored values, 0 to 255.

    The microphone's and the room's colour differs between bands, not between frames: docs/audio.md has the measurement.
    """

    input: AudioInput
    mean: tuple[float, ...]
    std: tuple[float, ...]

    channels = 1

    def __post_init__(self) -> None:
        bands = self.input.mels
        if len(self.mean) != bands or len(self.std) != bands or min(self.std) <= 0:
            raise InputError(
                f"preprocessing needs {bands} means and as many positive standard deviations, one for each mel band, "
                f"not {len(self.mean)} and {len(self.std)} with a least one of {min(self.std, default=0):g}"
            )

    @property
    def given(self) -> AudioInput:
        return self.input

    def turned_into(self, other: Preprocessing) -> tuple[Tensor, Tensor] | None:
        if not isinstance(other, LogMel) or self.input != other.input:
            return None
        return renormalisation((self.mean, self.std), (other.mean, other.std))

    @property
    def positions(self) -> int:
        return self.input.frames * self.input.mels

    def __call__(self, batch: Inputs) -> Tensor:
        """uint8 (N, frames, mels, 1) → float32 (N, 1, frames, mels), each band with the statistics of the training
        split taken out, on the same device. InputError for maps of another shape."""
        if tuple(batch.shape[1:]) != self.input.shape:
            raise InputError(
                f"The recordings are stored as {tuple(batch.shape[1:])} and the model reads {self.input.shape}; "
                f"prepare them with its input: {self.input.model_dump()}."
            )
        maps: Tensor = batch  # type: ignore[assignment]
        # Tensors of its own would outlive an export, whose tensors hold no values.
        scale = torch.tensor([1 / std for std in self.std], device=batch.device)
        offset = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], device=batch.device)
        return torch.addcmul(offset, maps[..., 0].float(), scale)[:, None]

    @classmethod
    def fit(cls, samples: Samples, given: AudioInput) -> "LogMel":
        """The mean and standard deviation of each band over `samples`, uint8 (N, frames, mels, 1).

        Give it the training split only. Reads in chunks, so `samples` may be memory-mapped.
        """
        total, squares = np.zeros(given.mels), np.zeros(given.mels)
        for start in range(0, len(samples), _READ):
            chunk = np.asarray(samples[start : start + _READ])[..., 0].astype(np.float64)
            total += chunk.sum(axis=(0, 1))
            squares += np.square(chunk).sum(axis=(0, 1))
        count = len(samples) * given.frames
        mean = total / count
        # A band without any contrast would be divided by 0; one step is the least that uint8 can show.
        std = np.sqrt(np.maximum(squares / count - np.square(mean), 0)).clip(min=1)
        return cls(given, tuple(mean.tolist()), tuple(std.tolist()))

    def example(self, count: int) -> Tensor:
        return torch.zeros(count, 1, self.input.frames, self.input.mels)

    def noise(self, count: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (count, *self.input.shape), dtype=np.uint8)

    @property
    def stored_form(self) -> str:
        frames, mels, _ = self.input.shape
        return f"log-mel maps of shape (N, {frames}, {mels}, 1)"

    def checked(self, values: np.ndarray) -> np.ndarray:
        """Maps of a request as uint8 (N, frames, mels, 1): whole numbers from 0 to 255 of any type."""
        expected = f"the model reads {self.stored_form}, whole numbers from 0 to 255"
        if values.ndim != 4 or values.shape[1:] != self.input.shape:
            raise InputError(f"the samples have the shape {values.shape}; {expected}")
        if values.dtype.kind not in "uif":
            raise InputError(f"the samples are of the type {values.dtype}; {expected}")
        if values.size and not (values.min() >= 0 and values.max() <= 255):
            raise InputError(f"the samples reach from {values.min():g} to {values.max():g}; {expected}")
        if values.dtype.kind == "f" and (values % 1).any():
            raise InputError(f"the samples hold fractions; {expected}")
        return values.astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section, `mean` and `std`."""
        return {**self.input.model_dump(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LogMel":
        """The inverse of `to_dict`. InputError if a value is missing or wrong."""
        try:
            given = AudioInput.of({name: content[name] for name in AudioInput.model_fields})
            mean, std = (tuple(float(value) for value in content[name]) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a preprocessing of recordings: {str(content)[:200]}") from error
        if not np.isfinite([*mean, *std]).all():
            raise InputError("preprocessing of recordings has means or deviations that are no numbers")
        return cls(given, mean, std)

    @property
    def described(self) -> str:
        given = self.input
        return f"{given.seconds:g} s at {given.rate / 1000:g} kHz, {given.frames} frames of {given.mels} mel bands"
