"""Augmentations: random changes of the samples of a training batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Augmentation:
    """A random change of the samples of a training batch.

    `apply(batch, draws, strength)` takes stored samples, a tensor (N, …) or a `Batch` of several, float32 draws (N,
    `draws_per_sample`) in [0, 1) on the same device, of which column 0 is the mirror's where the modality has one, and
    a strength from 0 (nothing changes) to 2. It returns a batch of the same shape and type in memory of its own, and a
    sample's variant depends on its own draws only.
    """

    apply: "Callable[[Any, torch.Tensor, float], Any]"
