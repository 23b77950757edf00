"""Views: the augmentation of training without labels, which goes further than those that a recipe can choose.

A view does not know a beginning or an end of up to half of the sequence, and a fifth of the letters that are left are
others.
"""

from typing import TYPE_CHECKING

from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities._sequences.changes import with_substitutions, with_unknown_ends

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def views(batch: "Batch", draws: "torch.Tensor", strength: float, alphabet: Alphabet) -> "Batch":
    shorter = with_unknown_ends(batch, draws[:, 1], min(0.5 * strength, 1.0), alphabet)
    return with_substitutions(shorter, draws[:, 2], min(0.2 * strength, 1.0), alphabet)
