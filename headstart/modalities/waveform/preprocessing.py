"""Preprocessing: stored waveforms become floating-point numbers in [-1, 1] and a mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.errors import InputError
from headstart.modalities.batch import Batch, Inputs
from headstart.modalities.preprocessing import Preprocessing
from headstart.modalities.waveform.decoding import FULL_SCALE, LEAST_SECONDS
from headstart.modalities.waveform.section import WaveformInput
from headstart.sections import Section

# A sample of sound takes about as much of an encoder as a quarter of a pixel does of a network for pictures.
_SAMPLES_PER_POSITION = 4
_NOISE_SECONDS = (0.4, 1.2)


def padded(samples: Sequence[np.ndarray]) -> Batch:
    """Stored waveforms as `wave`, int16 (N, L), filled up with 0, and `kept`, bool (N, L), which tells samples."""
    longest = max((len(each) for each in samples), default=0)
    values = np.zeros((len(samples), longest), dtype=np.int16)
    kept = np.zeros((len(samples), longest), dtype=bool)
    for row, each in enumerate(samples):
        values[row, : len(each)], kept[row, : len(each)] = each, True
    return Batch({"wave": torch.from_numpy(values), "kept": torch.from_numpy(kept)})


@dataclass(frozen=True)
class Waves(Preprocessing):
    """How recordings become waveforms. Networks normalise them themselves, each as it has learned."""

    input: WaveformInput

    channels = 1
    # The first convolutions of HuBERT hold 1 kB for each sample of sound, ResNet-18 150 bytes for each pixel.
    pixels_a_position = 24

    @property
    def given(self) -> WaveformInput:
        return self.input

    def read_as(self, given: Section) -> "Waves":
        """The same for recordings that are read as far as those of the data set. InputError for another rate."""
        assert isinstance(given, WaveformInput)  # noqa: S101 (that of this modality)
        if given.rate != self.input.rate:
            raise InputError(
                f"The recordings are stored at {given.rate} Hz and the model reads them at {self.input.rate}; set "
                f"rate: {self.input.rate} in the input of the data."
            )
        return Waves(given)

    @property
    def positions(self) -> int:
        return self.input.samples // _SAMPLES_PER_POSITION

    def __call__(self, batch: Inputs) -> Batch:
        """`wave`, int16 (N, B), and `kept`, bool (N, B), become `wave`, float32 (N, L) in [-1, 1], and `mask`, bool
        (N, L), L at most `input.samples`."""
        assert isinstance(batch, Batch)  # noqa: S101 (the modality's own)
        wave, kept = (batch.tensors[name][:, : self.input.samples] for name in ("wave", "kept"))
        return Batch({"wave": wave.float() / FULL_SCALE * kept, "mask": kept})

    def example(self, count: int) -> Batch:
        return self(padded(self.noise(count)))

    def noise(self, count: int) -> list[np.ndarray]:
        """White noise of 0.4 to 1.2 seconds, or as long as is read."""
        generator = np.random.default_rng(0)
        low, high = (min(round(each * self.input.rate), self.input.samples) for each in _NOISE_SECONDS)
        lengths = generator.integers(low, high + 1, count)
        return [generator.normal(0, 3000, length).clip(-32768, 32767).astype(np.int16) for length in lengths]

    @property
    def stored_form(self) -> str:
        return f"waveforms at {self.input.rate} Hz of shape (N, length), whole numbers from -32768 to 32767"

    @property
    def longest_input(self) -> int:
        return self.input.samples

    @property
    def shortest_input(self) -> int:
        return round(LEAST_SECONDS * self.input.rate)

    @property
    def program_form(self) -> str:
        return (
            f"int16 samples at {self.input.rate} Hz of shape (N, L), L from {self.shortest_input} to "
            f"{self.input.samples}, filled up with 0, and a bool mask of the same shape"
        )

    def checked(self, values: np.ndarray) -> list[np.ndarray]:
        """The waveforms of a request that gives samples, (N, length), of any type that holds whole numbers."""
        expected = f"the model reads {self.stored_form}"
        if values.ndim != 2 or values.dtype.kind not in "uif" or not values.shape[1]:
            raise InputError(f"the samples are {values.dtype} of shape {values.shape}; {expected}")
        if values.size and not (values.min() >= -32768 and values.max() <= 32767):
            raise InputError(f"the samples reach from {values.min():g} to {values.max():g}; {expected}")
        if values.dtype.kind == "f" and (values % 1).any():
            raise InputError(f"the samples hold fractions; {expected}")
        return list(values[:, : self.input.samples].astype(np.int16))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the input's section."""
        return self.input.model_dump()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Waves":
        """The inverse of `to_dict`. InputError if a value is missing or wrong."""
        try:
            return cls(WaveformInput.of({name: content[name] for name in WaveformInput.model_fields}))
        except (KeyError, TypeError) as error:
            raise InputError(f"not a preprocessing of waveforms: {str(content)[:200]}") from error

    @property
    def described(self) -> str:
        return f"waveforms of up to {self.input.seconds:g} s at {self.input.rate / 1000:g} kHz"
