"""Views: the augmentation of training without labels, which goes further than those that a recipe can choose.

It scales by 0.6 to 1.2, turns by up to 14° and shifts by up to 1/8; it blurs two thirds of the pictures and changes
contrast by up to 40%, brightness by up to 20% and saturation by up to 60%, a fifth of the pictures becoming grey (after
Chen et al. 2020, appendix A).
"""

import torch
from torch.nn import functional as F

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.image.warping import from_pixels, to_pixels, warped


def views(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    def uniform(column: int, low: float, high: float) -> torch.Tensor:
        return (strength * (low + (high - low) * draws[:, column]))[:, None, None, None]

    images = warped(from_pixels(batch), draws, strength, (0.6, 1.2), (0.82, 1.22), 0.25, 0.25)
    side = 2 * (images.shape[-1] // 24) + 1
    blurred = images
    for _ in range(2):
        blurred = F.avg_pool2d(blurred, side, stride=1, padding=side // 2, count_include_pad=False)
    images = torch.lerp(images, blurred, uniform(6, -0.5, 1.0).clamp(min=0))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + uniform(7, -0.4, 0.4)) + 255 * uniform(8, -0.2, 0.2)
    if images.shape[1] > 1:
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * (1 + uniform(9, -1.4, 0.6)).clamp(min=0)
    return to_pixels(images.clamp_(0, 255))


VIEWS = Augmentation(views)
