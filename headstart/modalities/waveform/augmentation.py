"""The registry of the augmentations of waveforms that a recipe can choose, and what they are made of.

All work on stored batches: `wave`, int16 (N, L), and `kept`, bool (N, L).
"""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch

AUGMENTATIONS = Registry(
    "waveform_augmentations", "headstart.modalities.waveform.augmentations", "AUGMENTATION", Augmentation
)


def changed(batch: "Batch", wave: "torch.Tensor") -> "Batch":
    """The batch with other waveforms, float (N, L), rounded and kept within full scale; padding stays silent."""
    import torch

    from headstart.modalities.batch import Batch

    kept = batch.tensors["kept"]
    return Batch({"wave": (wave * kept).round().clamp(-32768, 32767).to(torch.int16), "kept": kept.clone()})


def louder(wave: "torch.Tensor", draws: "torch.Tensor", most: float) -> "torch.Tensor":
    """Waveforms amplified by up to `most` dB or as much quieter, by draws (N,)."""
    return wave * (10 ** ((2 * draws - 1) * (most / 20)))[:, None]


def silenced(wave: "torch.Tensor", draws: "torch.Tensor", most: float, kept: "torch.Tensor") -> "torch.Tensor":
    """Waveforms of which a stretch is silent. Draws (N, 2) say its length, up to the share `most` of the recording's,
    and its place."""
    import torch

    length = kept.sum(dim=1)
    width = draws[:, 0] * most * length
    start = draws[:, 1] * (length - width)
    place = torch.arange(wave.shape[1], device=wave.device)
    return wave.masked_fill((place >= start[:, None]) & (place < (start + width)[:, None]), 0)
