"""Views: the augmentation of training without labels, which goes further than those that a recipe can choose.

It makes a recording up to 15 dB louder or quieter, silences two stretches of up to a quarter of it, and covers quiet
parts by white noise of up to -50 dB of full scale.
"""

from typing import TYPE_CHECKING

import torch

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.batch import doubled
from headstart.modalities.waveform.augmentation import changed, louder, silenced
from headstart.modalities.waveform.decoding import FULL_SCALE

if TYPE_CHECKING:
    from headstart.modalities.batch import Batch

_GAIN, _NOISE = 15.0, -50.0  # dB


def views(batch: "Batch", draws: torch.Tensor, strength: float) -> "Batch":
    wave, kept = louder(batch.tensors["wave"].float(), draws[:, 0], _GAIN * strength), batch.tensors["kept"]
    for first in (1, 3):
        wave = silenced(wave, draws[:, first : first + 2], strength / 4, kept)
    level = strength * FULL_SCALE * 10 ** (_NOISE / 20) * draws[:, 5]
    # Two numbers for each sample that look drawn, of the recording's draw and the sample's place, make a normal one
    # (Box and Muller 1958).
    place = doubled(torch.arange(wave.shape[1], device=wave.device))[None]
    seed = doubled(draws[:, :1]) * 12_582.917
    one = (seed + place * 0.618_033_988_749_895 + place * place * 0.414_213_562_373_095).frac().clamp(min=1e-9)
    other = (seed + place * 0.324_717_957_244_746 + place * place * 0.732_050_807_568_877).frac()
    noise = (-2 * one.log()).sqrt() * torch.cos(2 * torch.pi * other)
    return changed(batch, wave + level[:, None] * noise.float().to(wave.device))


VIEWS = Augmentation(views)
