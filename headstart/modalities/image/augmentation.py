"""The registry of the augmentations of images that a recipe can choose, and the mirror that is an option of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Augmentation:
    """A random change of the pictures of a training batch.

    `apply(batch, draws, strength)` takes uint8 (N, H, W, C), float32 draws (N, 10) in [0, 1) on the same device, of
    which column 0 is the mirror's, and a strength from 0 (nothing changes) to 2. It returns a batch of the same shape
    and type in memory of its own, and a picture's variant depends on its own draws only.
    """

    apply: "Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]"


AUGMENTATIONS = Registry("augmentations", "headstart.modalities.image.augmentations", "AUGMENTATION", Augmentation)


def mirror(batch: "torch.Tensor", chosen: "torch.Tensor") -> "torch.Tensor":
    """The batch, which may be changed, with those pictures mirrored for which `chosen`, bool (N,), is true."""
    import torch

    if batch.device.type != "cpu":
        return torch.where(chosen[:, None, None, None], batch.flip(2), batch)
    # NumPy copies whole pictures where torch chooses value by value; torch mirrors several times as fast as NumPy.
    pictures, rows = batch.numpy(), chosen.numpy()
    pictures[rows] = torch.from_numpy(pictures[rows]).flip(2).numpy()
    return batch
