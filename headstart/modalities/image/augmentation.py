"""The registry of the augmentations of images that a recipe can choose, and the mirror that is an option of each."""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

if TYPE_CHECKING:
    import torch


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
