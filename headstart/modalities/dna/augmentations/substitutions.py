"""substitutions: a twentieth of the nucleotides becomes others, as mutations do."""

from typing import TYPE_CHECKING

from headstart.modalities._sequences.alphabet import NUCLEOTIDES
from headstart.modalities._sequences.changes import with_substitutions
from headstart.modalities.augmentation import Augmentation

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def substitutions(batch: "Batch", draws: "torch.Tensor", strength: float) -> "Batch":
    return with_substitutions(batch, draws[:, 1], 0.05 * strength, NUCLEOTIDES)


AUGMENTATION = Augmentation(substitutions)
