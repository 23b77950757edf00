"""The registry of the augmentations of recordings that a recipe can choose, and what they are made of.

All work on stored maps, uint8 (N, frames, mels, 1): with these, gain is an addition.
"""

from typing import TYPE_CHECKING

from headstart.modalities.audio.scale import STEP
from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

if TYPE_CHECKING:
    import torch

AUGMENTATIONS = Registry(
    "audio_augmentations", "headstart.modalities.audio.augmentations", "AUGMENTATION", Augmentation
)


def shifted(maps: "torch.Tensor", draws: "torch.Tensor", most: float) -> "torch.Tensor":
    """Maps moved in time by up to the share `most` of their length, by draws (N,), with silence where nothing was."""
    import torch

    frames = maps.shape[1]
    steps = ((2 * draws - 1) * most * frames).round().long()
    source = torch.arange(frames, device=maps.device) - steps[:, None]
    inside = (source >= 0) & (source < frames)
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[rows, source.clamp(0, frames - 1)] * inside[:, :, None, None]


def louder(maps: "torch.Tensor", draws: "torch.Tensor", most: float) -> "torch.Tensor":
    """Maps amplified by up to `most` dB or as much quieter, by draws (N,); silence stays silence."""
    change = ((2 * draws - 1) * (most / STEP)).round()[:, None, None, None]
    changed = (maps.float() + change).clamp_(0, 255).to(maps.dtype)
    return changed * (maps > 0)


def masked(maps: "torch.Tensor", draws: "torch.Tensor", most: float, axis: int) -> "torch.Tensor":
    """Maps of which a stretch along `axis`, 1 for frames and 2 for bands, is the map's mean. Draws (N, 2) say its
    length, up to the share `most` of the axis, and its place."""
    import torch

    length = maps.shape[axis]
    width = (draws[:, 0] * (most * length + 1)).floor()
    start = (draws[:, 1] * (length - width + 1)).floor()
    place = torch.arange(length, device=maps.device)
    inside = (place >= start[:, None]) & (place < (start + width)[:, None])
    inside = inside.view(len(maps), *(length if each == axis else 1 for each in (1, 2)), 1)
    mean = maps.float().mean(dim=(1, 2, 3), keepdim=True).to(maps.dtype)
    return torch.where(inside, mean, maps)
