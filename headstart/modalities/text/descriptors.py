"""Descriptors of texts for models without anything deep: counts of words and of runs of characters, hashed.

They are computed by torch, so that a model which reads them is a network like another: kept, served and exported. A
classical model standardises them or not; standardised, what comes in few texts weighs more, as by an inverse document
frequency.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities.batch import Batch, Inputs

WIDTH = 4096
"""The number of values of each kind: the texts of a topic have some ten thousand words, few of which come often."""

_LONGEST = 24  # bytes of a word that count: its last ones
_RUN = 4  # bytes of a run of characters
_FACTOR = 1_000_003
_MODULUS = 2**31 - 1


def words(inputs: Inputs) -> Tensor:
    """`bytes`, uint8 (N, B), and `kept`, bool (N, B), to float32 (N, 4096): log(1 + count) of each hashed word and of
    each two that one character parts, scaled to the length 1 (Salton and Buckley 1988; Weinberger et al. 2009). Words
    are letters, digits and bytes beyond ASCII, in lower case."""
    letters = _lower(inputs)
    of_word = _is_word(letters)
    alive, number, length = of_word, torch.zeros_like(letters), torch.zeros_like(letters)
    for power in range(_LONGEST):
        number = number + alive * _moved(letters, power) * pow(_FACTOR, power, _MODULUS)
        length = length + alive
        alive = alive & _moved(of_word, power + 1)
    ends = of_word & ~F.pad(of_word[:, 1:], (0, 1))
    number = number % _MODULUS
    # The word before ends two places before this one begins, if one character parts them.
    before = torch.arange(letters.shape[1], device=letters.device) - length - 1
    place = before.clamp(min=0)
    pairs = ends & (before >= 0) & ends.gather(1, place)
    both = (number.gather(1, place) * 31 + number * 17 + 7) % _MODULUS
    return _counted(torch.cat([number, both], dim=1), torch.cat([ends, pairs], dim=1))


def characters(inputs: Inputs) -> Tensor:
    """The same of runs of four characters, where all that is no word counts as one space: float32 (N, 4096)."""
    letters = _lower(inputs)
    of_word = _is_word(letters)
    # From 32 on, so that what is moved in before a text is a space too.
    letters = torch.where(of_word, letters - 32, 0)
    number = torch.zeros_like(letters)
    for power in range(_RUN):
        number = number + (_moved(letters, power) + 32) * pow(_FACTOR, power, _MODULUS)
    # A run has at least a letter at its end, and no more than one space at its beginning.
    valid = of_word & _moved(of_word, 1) & _moved(of_word, 2)
    return _counted(number % _MODULUS, valid)


def _lower(inputs: Inputs) -> Tensor:
    """int64 (N, B): ASCII in lower case, 0 for padding, and a 0 at the end."""
    assert isinstance(inputs, Batch)  # noqa: S101 (the modality's own)
    values, kept = inputs.tensors["bytes"], inputs.tensors["kept"]
    letters = F.pad(values.long() * kept, (0, 1))
    return letters + 32 * ((letters >= 65) & (letters <= 90))


def _is_word(letters: Tensor) -> Tensor:
    return ((letters >= 97) & (letters <= 122)) | ((letters >= 48) & (letters <= 57)) | (letters >= 128)


def _moved(values: Tensor, steps: int) -> Tensor:
    """Each row moved to the right, with 0 where nothing was."""
    return F.pad(values, (steps, 0))[:, : values.shape[1]]


def _counted(numbers: Tensor, valid: Tensor) -> Tensor:
    """Hashed numbers (N, M), of which those that are `valid` count, as float32 (N, WIDTH) of length 1."""
    # A sum over the batch's own zeros: an export would take the number of rows of a new tensor for a constant.
    counts = torch.zeros_like(numbers[:, :1], dtype=torch.float32).repeat(1, WIDTH)
    counts = counts.scatter_add(1, numbers % WIDTH, valid.float())
    logs = torch.log1p(counts)
    return logs / logs.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
