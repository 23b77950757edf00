"""Views: the augmentation of training without labels, which goes further than those that a recipe can choose.

A view lacks a beginning or an end of up to half of the text, and a quarter of the words that are left.
"""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.text.augmentation import without_ends, without_words

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def views(batch: "Batch", draws: "torch.Tensor", strength: float) -> "Batch":
    shorter = without_ends(batch, draws[:, 0], min(0.5 * strength, 1.0))
    return without_words(shorter, draws[:, 1], min(0.25 * strength, 1.0))


VIEWS = Augmentation(views)
