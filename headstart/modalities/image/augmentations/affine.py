"""Affine: scales by 0.75 to 1.25 and each axis by another 0.87 to 1.15, turns by up to 9° and shifts by up to 1/10 of
the side, border pixels repeated.

It costs more than `crop` and carries further: docs/studies/affine.md.
"""

import torch

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.image.warping import from_pixels, to_pixels, warped


def affine(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    return to_pixels(warped(from_pixels(batch), draws, strength, (0.75, 1.25), (0.87, 1.15), 0.157, 0.2))


AUGMENTATION = Augmentation(affine)
