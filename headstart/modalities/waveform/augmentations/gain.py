"""gain: up to 10 dB louder or quieter."""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.waveform.augmentation import changed, louder

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def gain(batch: "Batch", draws: "torch.Tensor", strength: float) -> "Batch":
    return changed(batch, louder(batch.tensors["wave"].float(), draws[:, 0], 10 * strength))


AUGMENTATION = Augmentation(gain)
