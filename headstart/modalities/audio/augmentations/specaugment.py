"""SpecAugment: as `shift`, and two stretches of time and two of bands, each up to a sixth of the map, become its mean
(Park et al. 2019, "SpecAugment: a simple data augmentation method for automatic speech recognition")."""

import torch

from headstart.modalities.audio.augmentation import masked
from headstart.modalities.audio.augmentations.shift import shift
from headstart.modalities.augmentation import Augmentation


def specaugment(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    maps = shift(batch, draws, strength)
    for axis, first in ((1, 2), (1, 4), (2, 6), (2, 8)):
        maps = masked(maps, draws[:, first : first + 2], strength / 6, axis)
    return maps


AUGMENTATION = Augmentation(specaugment)
