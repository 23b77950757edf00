"""Preprocessing: stored samples become the normalised inputs of a network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from headstart.modalities.batch import Inputs
from headstart.sections import Section

# Positions of maps that a forward pass visits at once, and the most samples. On two cores, ResNet-18 at 224 px is
# fastest with about 30 images (10 take 4 to 8% longer; 256 a third longer, and eight times the memory), and convnet at
# 32 px with 128 (512, whose maps no cache holds, take 38% longer). Apple's GPU, which shares the CPU's memory, was not
# measured.
_POSITIONS = {"cpu": 3 * 2**19, "cuda": 2**23, "mps": 3 * 2**19}
_SAMPLES = {"cpu": 128, "cuda": 512, "mps": 128}

Statistics = tuple[Sequence[float], Sequence[float]]
"""Means and standard deviations, one of each for a channel or band."""


class Samples(Protocol):
    """Stored samples: `samples[rows]` is an array, or a list of arrays where their lengths differ. `rows` is a slice,
    positions in any order or a mask; a position gives one sample. Read a few at a time: all of them may not fit into
    memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Wider(NamedTuple):
    """Preprocessing of more channels, and the share of each of them in the one that was read before."""

    preprocessing: "Preprocessing"
    shares: Sequence[float]


class Preprocessing(ABC):
    """What a model's bundle keeps of its input: how raw files are decoded, and statistics of the training split."""

    channels: int
    """of what the first stage reads: of maps their channels, of tokens how many there are"""

    in_programs: ClassVar[bool] = True
    """Whether torch's operations compute it, so that an exported program begins with it. Elsewhere a program reads its
    result."""

    @property
    @abstractmethod
    def given(self) -> Section:
        """The modality's `input` by which raw samples are decoded for the model."""

    def read_as(self, given: Section) -> "Preprocessing":
        """The same for a model that learns from a data set whose raw samples were decoded by `given`: those that it
        gets later are decoded alike."""
        return self

    def widened(self, given: Section) -> Wider | None:
        """Preprocessing that gives every channel of samples stored by `given`, normalised so that their sum by the
        shares is what this one gives; None where this one gives all, or no sum of them."""
        return None

    pixels_a_position: ClassVar[int] = 1
    """How many pixels of a picture take as much memory in a network as one of `positions` does"""

    @property
    @abstractmethod
    def positions(self) -> int:
        """How many positions of a sample the first stage visits: pixels, frames × bands, the usual length."""

    def samples_at_once(self, device: torch.device) -> int:
        """How many samples a forward pass on a device takes at once: as many as are fastest, within bounded memory."""
        pixels = self.positions * self.pixels_a_position
        return int(np.clip(_POSITIONS[device.type] // pixels, 1, _SAMPLES[device.type]))

    @abstractmethod
    def __call__(self, batch: Inputs) -> Inputs:
        """A stored batch as the first stage reads it, on the same device: for `maps`, float32 (N, C, H, W)."""

    def turned_into(self, other: "Preprocessing") -> "tuple[Tensor, Tensor] | None":
        """A factor and a summand, on the CPU, that make `other`'s result for a batch of this one's, where both give one
        tensor and differ in their statistics alone; None elsewhere. Both broadcast to what a first stage reads."""
        return None

    @abstractmethod
    def example(self, count: int) -> Inputs:
        """Inputs of the first stage, `count` samples of any values, the same at every call, on the CPU."""

    @abstractmethod
    def noise(self, count: int) -> "np.ndarray | list[np.ndarray]":
        """`count` stored samples of noise, the same at every call: what an export is compared on."""

    @property
    @abstractmethod
    def stored_form(self) -> str:
        """What `checked` takes, in words: `pixels of shape (N, 32, 32, 1)`."""

    @property
    def longest_input(self) -> int | None:
        """The most positions along the second axis of what a program reads, where that axis is free; None: any."""
        return None

    @property
    def shortest_input(self) -> int | None:
        """The fewest positions along the second axis of what a program reads, where that axis is free; None: any."""
        return None

    @property
    def program_form(self) -> str:
        """What an exported program reads, in words."""
        return self.stored_form

    @abstractmethod
    def checked(self, values: np.ndarray) -> "np.ndarray | list[np.ndarray]":
        """Stored samples that a request gives as numbers, (N, …). InputError, with the shape that is expected, if they
        are of another shape, type or range."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    @property
    @abstractmethod
    def described(self) -> str:
        """The input in words, for a model's card: `32 × 32, grey`."""


def renormalisation(ours: Statistics, theirs: Statistics) -> tuple[Tensor, Tensor]:
    """The factors and the summands, float32 (C,) each, that make (v - mean) / std by `theirs` of that by `ours`."""
    before, after = (torch.tensor(each, dtype=torch.float64) for each in (ours, theirs))
    return (before[1] / after[1]).float(), ((before[0] - after[0]) / after[1]).float()
