"""Near duplicates: sequences of so high an identity that they have one ancestor, which never part between splits.

Identity is estimated from the k-mers that two sequences share, j of their union, as 1 + ln(2j / (1 + j)) / k (Ondov et
al. 2016, "Mash: fast genome and metagenome distance estimation using MinHash"). Of DNA, a k-mer and its reverse
complement are one, so that the two strands of a molecule are the same. Candidates share one of 64 values of their
MinHash: sequences at the threshold are missed less often than once in 100 000 times.
"""

import math

import numpy as np

from headstart.modalities._sequences.alphabet import NUCLEOTIDES, RESIDUES, Alphabet
from headstart.modalities.minhash import Shingled


def shared_at(identity: float, k: int) -> float:
    """The share j of the k-mers of two sequences that both have, where their identity is estimated so."""
    kept = math.exp(-k * (1 - identity))
    return kept / (2 - kept)


def kmers_of(values: np.ndarray, k: int, alphabet: Alphabet) -> np.ndarray:
    """The k-mers, uint64 (n,), different and rising, of a stored sequence, without those that have an unknown letter;
    with complements, of each and its reverse complement the lower one."""
    count = len(alphabet.letters)
    numbers = alphabet.numbers[values]
    if len(numbers) < k:
        return np.empty(0, dtype=np.uint64)
    powers, runs = np.uint64(count) ** np.arange(k, dtype=np.uint64), numbers.astype(np.uint64)
    found = np.convolve(runs, powers, mode="valid")
    if alphabet.complements:
        # The letters' places are those of their complements from the end: A C G T.
        found = np.minimum(found, np.convolve(np.uint64(count - 1) - runs, powers[::-1], mode="valid"))
    unknown = np.concatenate([[0], np.cumsum(numbers >= count)])
    known = unknown[k:] == unknown[:-k]
    kept: np.ndarray = np.unique(found[known])
    return kept


class DnaAlike(Shingled):
    """Identity of 0.9 at least, by runs of 11 nucleotides."""

    k = 11
    alike, rows, least = shared_at(0.9, 11), 1, 32

    def shingles(self, values: np.ndarray) -> np.ndarray:
        return kmers_of(values, self.k, NUCLEOTIDES)


class ProteinsAlike(Shingled):
    """Identity of 0.7 at least, by runs of 4 residues."""

    k = 4
    alike, rows, least = shared_at(0.7, 4), 1, 16

    def shingles(self, values: np.ndarray) -> np.ndarray:
        return kmers_of(values, self.k, RESIDUES)


DNA_ALIKE, PROTEINS_ALIKE = DnaAlike(), ProteinsAlike()
