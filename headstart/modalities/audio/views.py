"""Views: the augmentation of training without labels, which goes further than those that a recipe can choose.

It moves by up to a quarter of the length, raises one end of the bands by up to 12 dB over the other and makes all up to
15 dB louder or quieter, as other microphones do, lets noise cover what is below a level of up to -50 dB, and masks as
`specaugment` does, up to a quarter at a time.
"""

import torch

from headstart.modalities.audio.augmentation import louder, masked, shifted
from headstart.modalities.audio.scale import FLOOR, STEP
from headstart.modalities.augmentation import Augmentation

_TILT, _GAIN, _NOISE = 12.0, 15.0, -50.0  # dB


def views(batch: torch.Tensor, draws: torch.Tensor, strength: float) -> torch.Tensor:
    maps = louder(shifted(batch, draws[:, 0], strength / 4), draws[:, 1], _GAIN * strength)
    slope = torch.linspace(-0.5, 0.5, maps.shape[2], device=maps.device)[:, None]
    tilt = strength * (_TILT / STEP) * (2 * draws[:, 10, None, None, None] - 1) * slope
    level = strength * ((_NOISE - FLOOR) / STEP) * draws[:, 11, None, None, None]
    tilted = (maps.float() + tilt) * (maps > 0)
    maps = torch.maximum(tilted, level).round_().clamp_(0, 255).to(torch.uint8)
    for axis, first in ((1, 2), (1, 4), (2, 6), (2, 8)):
        maps = masked(maps, draws[:, first : first + 2], strength / 4, axis)
    return maps


VIEWS = Augmentation(views)
