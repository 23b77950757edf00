"""Shift: moves by up to 1/8 of the length, and up to 10 dB louder or quieter."""

import torch

from headstart.modalities.audio.augmentation import louder, shifted
from headstart.modalities.augmentation import Augmentation


def shift(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    return louder(shifted(batch, draws[:, 0], strength / 8), draws[:, 1], 10 * strength)


AUGMENTATION = Augmentation(shift)
