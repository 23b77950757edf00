"""The registry of the augmentations of texts that a recipe can choose, and what they are made of.

All work on stored texts, `bytes` and `kept` of one shape (N, B): what is left out becomes spaces, so that words stay
where they are and characters of several bytes whole.
"""

from typing import TYPE_CHECKING

from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch

AUGMENTATIONS = Registry("text_augmentations", "headstart.modalities.text.augmentations", "AUGMENTATION", Augmentation)

_SPACE = 32


def without_words(batch: "Batch", draws: "torch.Tensor", share: float) -> "Batch":
    """Texts without about the share `share` of their words; draws (N,) decide which."""
    import torch

    from headstart.modalities.batch import doubled

    values, kept = batch.tensors["bytes"], batch.tensors["kept"]
    blank = (values <= _SPACE) | ~kept
    starts = ~blank & torch.nn.functional.pad(blank[:, :-1], (1, 0), value=True)
    drawn = doubled(draws)[:, None]
    number = starts.long().cumsum(dim=1).to(drawn.device)
    # A number in [0, 1) for each word, of the draw and of the word's place: the fractions of multiples of two
    # irrational numbers are spread evenly.
    drawn = drawn * 12_582.917 + number * 0.618_033_988_749_895 + number * number * 0.414_213_562
    return _blanked(batch, (drawn.frac() < share).to(blank.device) & ~blank)


def without_ends(batch: "Batch", draws: "torch.Tensor", share: float) -> "Batch":
    """Texts without a beginning or an end of up to the share `share` of their length; draws (N,) decide which, and how
    much."""
    import torch

    kept = batch.tensors["kept"]
    length = kept.sum(dim=1, keepdim=True)
    place = torch.arange(kept.shape[1], device=kept.device)[None]
    cut = ((2 * draws[:, None] - 1) * share * length).round()
    # A character of several bytes is left out as a whole: with those of its bytes that follow.
    outside = (place < cut) | (place >= length + cut.clamp(max=0))
    inner = (batch.tensors["bytes"] & 0xC0) == 0x80
    for _ in range(3):
        outside = outside | (inner & torch.nn.functional.pad(outside[:, :-1], (1, 0)))
        outside = outside | torch.nn.functional.pad((outside & inner)[:, 1:], (0, 1))
    return _blanked(batch, outside & kept)


def _blanked(batch: "Batch", out: "torch.Tensor") -> "Batch":
    from headstart.modalities.batch import Batch

    values, kept = batch.tensors["bytes"], batch.tensors["kept"]
    # A text without any word would say nothing at all: it stays as it is.
    left = (~out & kept & (values > _SPACE)).any(dim=1, keepdim=True)
    return Batch({"bytes": values.masked_fill(out & left, _SPACE), "kept": kept.clone()})
