"""Preprocessing: stored samples become the normalised inputs of a network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headstart.errors import InputError
from headstart.modalities.batch import Inputs
from headstart.modalities.image.section import Fit, ImageInput, Interpolation
from headstart.modalities.preprocessing import Preprocessing as _Preprocessing
from headstart.modalities.preprocessing import Samples, Wider, renormalisation
from headstart.sections import Section

# Red, green and blue in the luma of ITU-R BT.601, which is also what Pillow's mode "L" uses.
_LUMA = (0.299, 0.587, 0.114)


MAX_SIZE = 2048
"""Twice the side of the largest images that published networks read. One sample takes gigabytes beyond that."""


@dataclass(frozen=True)
class Preprocessing(_Preprocessing):
    """Side length in pixels, channels (1 grey, 3 RGB), and per-channel mean and standard deviation in [0, 1]; and how a
    file's picture is brought into the square: `resize` is the side that a published model's card resizes it to before
    the square is cut, with its `interpolation`."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fitted_by: Fit = "crop"
    resize: int | None = None
    interpolation: Interpolation | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE or self.channels not in (1, 3):
            raise InputError(
                f"preprocessing needs a size of 1 to {MAX_SIZE} and 1 or 3 channels, not {self.size} and "
                f"{self.channels}"
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise InputError(
                f"preprocessing needs {self.channels} means and as many positive standard deviations, "
                f"not mean {list(self.mean)} and std {list(self.std)}"
            )
        if self.resize is not None and not self.size <= self.resize <= 2 * MAX_SIZE:
            raise InputError(
                f"preprocessing needs a resize of at least its size and {2 * MAX_SIZE} at most, not {self.resize} for "
                f"{self.size}"
            )

    @property
    def given(self) -> ImageInput:
        # Networks from elsewhere read larger pictures than a recipe may ask for.
        return ImageInput.model_construct(
            size=self.size,
            channels=self.channels,
            fit=self.fitted_by,
            resize=self.resize,
            interpolation=self.interpolation,
        )

    def read_as(self, given: Section) -> "Preprocessing":
        assert isinstance(given, ImageInput)  # noqa: S101 (that of this modality)
        # In proportion, where the stored pictures have another size than the network reads.
        resize = given.resize and round(given.resize * self.size / (given.size or self.size))
        return replace(self, fitted_by=given.fit, resize=resize, interpolation=given.interpolation)

    def widened(self, given: Section) -> Wider | None:
        """A grey reading's in colour: the luma of red, green and blue is what it gives."""
        assert isinstance(given, ImageInput)  # noqa: S101 (that of this modality)
        if (self.channels, given.channels) != (1, 3):
            return None
        return Wider(replace(self, channels=3, mean=self.mean * 3, std=self.std * 3), _LUMA)

    def turned_into(self, other: _Preprocessing) -> tuple[Tensor, Tensor] | None:
        if not isinstance(other, Preprocessing) or self.given != other.given:
            return None
        factor, summand = renormalisation((self.mean, self.std), (other.mean, other.std))
        return factor[:, None, None], summand[:, None, None]

    @property
    def positions(self) -> int:
        return self.size**2

    def example(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(count, self.channels, self.size, self.size, generator=generator)

    def noise(self, count: int) -> np.ndarray:
        shape = (count, self.size, self.size, self.channels)
        return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)

    @property
    def stored_form(self) -> str:
        return f"pixels of shape {self._expected}"

    @property
    def _expected(self) -> str:
        return f"(N, {self.size}, {self.size}, {self.channels})"

    def checked(self, values: np.ndarray) -> np.ndarray:
        """uint8 (N, size, size, channels) of integers from 0 to 255 of any type."""
        if values.shape[1:] != (self.size, self.size, self.channels):
            raise InputError(
                f"The pixels have the shape {values.shape}, not {self._expected}; resize them, or send the files' "
                "content, which is resized here."
            )
        if values.dtype.kind not in "iu":
            raise InputError(f"The pixels are of type {values.dtype}; give integers from 0 to 255.")
        if values.min() < 0 or values.max() > 255:
            raise InputError(f"The pixels range from {values.min()} to {values.max()}; give integers from 0 to 255.")
        return values.astype(np.uint8)

    @property
    def described(self) -> str:
        return f"{self.size} × {self.size}, {'grey' if self.channels == 1 else 'RGB'}"

    def __call__(self, batch: Inputs) -> Tensor:
        """uint8 (N, H, W, C) with C 1 or 3 → float32 (N, channels, size, size), normalised, on the same device.

        Images of another size are resized to the square by antialiased bilinear interpolation; one that is not
        square is stretched. The values lie pixel by pixel in memory, which torch calls channels last.
        """
        scale, offset = (torch.from_numpy(row).to(batch.device, non_blocking=True) for row in self._rows)
        assert isinstance(batch, Tensor)  # noqa: S101 (of one array comes one tensor)
        rows = self._sized(batch).flatten(2)
        values = torch.addcmul(offset, rows, scale, out=rows)
        return values.view(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(v / 255 - mean) / std as a factor and a summand for each value of a row, float32 (size · channels,) each: a
        processor computes hundreds of values side by side, and is five times as fast as with the three of a pixel."""
        # Tensors would outlive an export, whose tensors hold no values.
        scale = np.array([1 / (255 * std) for std in self.std], dtype=np.float32)
        offset = np.array([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], dtype=np.float32)
        return np.tile(scale, self.size), np.tile(offset, self.size)

    def _sized(self, batch: Tensor) -> Tensor:
        """uint8 (N, H, W, C) → float32 (N, size, size, channels) in [0, 255], in memory of its own."""
        if batch.shape[3] not in (1, 3):
            raise InputError(f"samples have {batch.shape[3]} channels; images with 1 or 3 can be read")
        images = batch.float()
        if batch.shape[3] == 3 and self.channels == 1:
            images = (images * torch.tensor(_LUMA, device=batch.device)).sum(3, keepdim=True)
        if batch.shape[1:3] != (self.size, self.size):
            resized = F.interpolate(images.permute(0, 3, 1, 2), (self.size, self.size), mode="bilinear", antialias=True)
            images = resized.permute(0, 2, 3, 1)
        return images.repeat(1, 1, 1, 3) if batch.shape[3] < self.channels else images

    @classmethod
    def fit(cls, samples: Samples, size: int, channels: int, fitted_by: Fit = "crop") -> "Preprocessing":
        """Mean and standard deviation of each channel over `samples`, uint8 (N, H, W, C), at `size` and `channels`.

        Give it the training split only. Reads in chunks, so `samples` may be memory-mapped.
        """
        unscaled = cls(size, channels, mean=(0.0,) * channels, std=(1.0,) * channels)
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros(channels, dtype=torch.float64)
        for start in range(0, len(samples), 256):
            chunk = unscaled(torch.from_numpy(np.array(samples[start : start + 256]))).double()
            total += chunk.sum(dim=(0, 2, 3))
            squares += chunk.square().sum(dim=(0, 2, 3))
        mean = total / (len(samples) * size**2)
        variance = (squares / (len(samples) * size**2) - mean.square()).clamp(min=0)
        # A channel without any contrast would be divided by 0; one grey level is the least that uint8 can show.
        std = variance.sqrt().clamp(min=1 / 255)
        return cls(size, channels, tuple(mean.tolist()), tuple(std.tolist()), fitted_by)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        content = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        # Bundles had no such keys when there was no choice, and need none where the choice is the same.
        if (fitted_by := content.pop("fitted_by")) != "crop":
            content["fit"] = fitted_by
        return {key: value for key, value in content.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`. InputError if a value is missing or wrong."""
        try:
            return cls(
                size=int(content["size"]),
                channels=int(content["channels"]),
                mean=tuple(float(value) for value in content["mean"]),
                std=tuple(float(value) for value in content["std"]),
                fitted_by=ImageInput(fit=content.get("fit", "crop")).fit,
                resize=None if content.get("resize") is None else int(content["resize"]),
                interpolation=ImageInput(resize=8, interpolation=content.get("interpolation")).interpolation,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a preprocessing (size, channels, mean, std): {str(content)[:200]}") from error
