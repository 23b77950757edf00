"""word_dropout: a tenth of the words is left out (Iyyer et al. 2015, "Deep unordered composition rivals syntactic
methods for text classification")."""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.modalities.text.augmentation import without_words

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def word_dropout(batch: "Batch", draws: "torch.Tensor", strength: float) -> "Batch":
    return without_words(batch, draws[:, 0], 0.1 * strength)


AUGMENTATION = Augmentation(word_dropout)
