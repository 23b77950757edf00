"""Descriptors of sequences for models without anything deep: counts of k-mers, and the letter at each place.

They are computed by torch, so that a model which reads them is a network like another: kept, served and exported.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities._sequences.preprocessing import kmers, numbered
from headstart.modalities.batch import Inputs

PLACES = 128
"""Letters from the beginning of a sequence whose place counts."""


def shares(inputs: Inputs, alphabet: Alphabet, lengths: range) -> Tensor:
    """`letters`, uint8 (N, L), and `kept`, bool (N, L), to float32 (N, D): of each length of k-mers, the square roots
    of the share that each of them has, so that every length has a vector of length 1 (Hellinger's distance)."""
    numbers, _ = numbered(inputs, alphabet)
    count = len(alphabet.letters)
    found = []
    for k in lengths:
        runs, known = kmers(numbers, k, count)
        # A sum over the batch's own zeros: an export would take the number of rows of a new tensor for a constant.
        none = torch.zeros_like(numbers[:, :1], dtype=torch.float32).repeat(1, count**k)
        counts = none.scatter_add(1, runs, known.float())
        found.append((counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).sqrt())
    return torch.cat(found, dim=1)


def places(inputs: Inputs, alphabet: Alphabet) -> Tensor:
    """float32 (N, 128 x letters): 1 for the letter at each of the first 128 places, 0 elsewhere, as a matrix of
    position weights reads sites that are aligned (Stormo 2000, "DNA binding sites: representation and discovery")."""
    numbers, _ = numbered(inputs, alphabet)
    count = len(alphabet.letters)
    first = F.pad(numbers, (0, PLACES), value=count)[:, :PLACES]
    return (first.unsqueeze(2) == torch.arange(count, device=first.device)).float().flatten(1)
