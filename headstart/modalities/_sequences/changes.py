"""What augmentations and corruptions of sequences are made of.

Augmentations change stored batches, `letters` and `kept` of one shape (N, L), corruptions arrays uint8 (L,). What a
corruption changes depends on the sequence and the severity alone; a heavier one changes what a lighter one does, and
more. Ambiguous letters stay as they are.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.modalities._sequences.alphabet import Alphabet

if TYPE_CHECKING:
    import torch

    from headstart.modalities.batch import Batch


def with_substitutions(batch: "Batch", draws: "torch.Tensor", share: float, alphabet: Alphabet) -> "Batch":
    """Sequences of which about the share `share` of the letters is another; draws (N,) decide which."""
    import torch

    from headstart.modalities.batch import Batch, doubled

    letters, kept = batch.tensors["letters"], batch.tensors["kept"]
    numbers = torch.tensor(alphabet.numbers.tolist(), device=letters.device)[letters.long()]
    count = len(alphabet.letters)
    place = doubled(torch.arange(letters.shape[1], device=letters.device))[None]
    # A number in [0, 1) for each letter, of the draw and of the letter's place: the fractions of multiples of two
    # irrational numbers are spread evenly.
    drawn = doubled(draws)[:, None] * 12_582.917 + place * 0.618_033_988_749_895 + place * place * 0.414_213_562
    drawn = drawn.frac()
    # What is left of a number below the share is a number in [0, 1) again: which of the other letters it becomes.
    step = 1 + (drawn / max(share, 1e-12) * (count - 1)).long().clamp(0, count - 2).to(letters.device)
    other = torch.tensor(alphabet.codes.tolist(), dtype=torch.uint8, device=letters.device)[(numbers + step) % count]
    changed = (drawn < share).to(letters.device) & (numbers < count) & kept
    return Batch({"letters": torch.where(changed, other, letters), "kept": kept.clone()})


def with_unknown_ends(batch: "Batch", draws: "torch.Tensor", share: float, alphabet: Alphabet) -> "Batch":
    """Sequences whose beginning or end, up to the share `share` of their length, is unknown; draws (N,) decide which,
    and how much."""
    import torch

    from headstart.modalities.batch import Batch

    letters, kept = batch.tensors["letters"], batch.tensors["kept"]
    length = kept.sum(dim=1, keepdim=True)
    place = torch.arange(kept.shape[1], device=kept.device)[None]
    cut = ((2 * draws[:, None] - 1) * share * (length - 1)).round()
    outside = ((place < cut) | (place >= length + cut.clamp(max=0))) & kept
    return Batch({"letters": letters.masked_fill(outside, ord(alphabet.unknown)), "kept": kept.clone()})


def reversed_complements(batch: "Batch", chosen: "torch.Tensor", alphabet: Alphabet) -> "Batch":
    """A batch of which the sequences that are `chosen`, bool (N,), are their other strand, in its own direction."""
    import torch

    from headstart.modalities.batch import Batch

    letters, kept = batch.tensors["letters"], batch.tensors["kept"]
    length = kept.sum(dim=1, keepdim=True)
    place = torch.arange(kept.shape[1], device=kept.device)[None]
    paired = torch.tensor(alphabet.complement.tolist(), dtype=torch.uint8, device=letters.device)
    other = paired[letters.gather(1, (length - 1 - place).clamp(min=0)).long()]
    return Batch({"letters": torch.where(chosen[:, None] & kept, other, letters), "kept": kept.clone()})


def substituted(samples: Sequence[np.ndarray], share: float, alphabet: Alphabet) -> list[np.ndarray]:
    """Sequences of which about the share `share` of the letters is another."""
    count = len(alphabet.letters)

    def change(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn, step = generator.random(len(values)), generator.integers(1, count, len(values))
        numbers = alphabet.numbers[values]
        other = alphabet.codes[(numbers + step) % count]
        return np.where((drawn < share) & (numbers < count), other, values)

    return _of_each(change, samples)


def with_indels(samples: Sequence[np.ndarray], share: float, alphabet: Alphabet) -> list[np.ndarray]:
    """Sequences that lack half of about the share `share` of the letters, and have another before the other half."""

    def change(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn, other = generator.random(len(values)), generator.integers(0, len(alphabet.letters), len(values))
        lost = (drawn < share) & (generator.random(len(values)) < 0.5)
        longer = np.stack([alphabet.codes[other], values], axis=1)
        kept = np.stack([(drawn < share) & ~lost, ~lost], axis=1)
        return longer[kept] if kept.any() else values

    return _of_each(change, samples)


def other_strands(samples: Sequence[np.ndarray], share: float, alphabet: Alphabet) -> list[np.ndarray]:
    """Sequences of which about the share `share` is the reverse complement."""

    def change(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return alphabet.complement[values][::-1].copy() if generator.random() < share else values

    return _of_each(change, samples)


def _of_each(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray], samples: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Each sequence as `change` leaves it, which is given random numbers of the sequence's own."""
    return [change(values, np.random.default_rng(zlib.crc32(values.tobytes()))) for values in samples]
