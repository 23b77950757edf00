"""gaps: up to 10 dB louder or quieter, and two stretches of up to a sixth of the recording are silent, as SpecAugment
masks time (Park et al. 2019)."""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.waveform.augmentation import changed, louder, silenced

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def gaps(batch: "Batch", draws: "torch.Tensor", strength: float) -> "Batch":
    wave, kept = louder(batch.tensors["wave"].float(), draws[:, 0], 10 * strength), batch.tensors["kept"]
    for first in (1, 3):
        wave = silenced(wave, draws[:, first : first + 2], strength / 6, kept)
    return changed(batch, wave)


AUGMENTATION = Augmentation(gaps)
