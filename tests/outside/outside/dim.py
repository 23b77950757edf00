"""Dim: pictures darkened by up to a half."""

import torch

from headstart.modalities.augmentation import Augmentation


def dim(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    kept = 1 - (0.5 * strength * draws[:, 1]).clamp(max=1)
    return (batch * kept[:, None, None, None]).to(torch.uint8)


AUGMENTATION = Augmentation(dim)
