"""Sequences of high identity are found, whichever strand they are; random ones are not."""

import numpy as np
import pytest

from headstart.modalities._sequences.alphabet import NUCLEOTIDES, RESIDUES
from headstart.modalities._sequences.changes import substituted
from headstart.modalities._sequences.near_duplicates import DNA_ALIKE, PROTEINS_ALIKE, shared_at
from tests.modalities.sequences.genes import RESIDUES as LETTERS
from tests.modalities.sequences.genes import letters


def dna(seed: int, count: int = 300) -> np.ndarray:
    return np.frombuffer(letters(seed, count).encode(), np.uint8)


def pairs(samples, alike=DNA_ALIKE) -> list[tuple[int, int]]:
    marks = alike.marks(samples)
    assert None not in marks
    return alike.pairs(marks, lambda number: samples[number])


def found(share: float, alike, alphabet, make) -> float:
    """The share of the sequences of which a copy with so many other letters is found."""
    originals = [make(seed) for seed in range(40)]
    return len(pairs([*originals, *substituted(originals, share, alphabet)], alike)) / 40


@pytest.mark.parametrize(
    "copy",
    [
        dna(7)[20:],
        dna(7)[:250],
        NUCLEOTIDES.complement[dna(7)][::-1],
        substituted([dna(7)], 0.03, NUCLEOTIDES)[0],
        np.concatenate([dna(7)[:100], dna(99, 20), dna(7)[100:]]),
    ],
)
def test_a_copy_of_high_identity_is_found_on_either_strand(copy):
    assert pairs([dna(5), dna(7), dna(9), copy]) == [(1, 3)]


def test_the_thresholds_are_identities_of_nine_tenths_and_seven_tenths():
    def protein(seed: int) -> np.ndarray:
        return np.frombuffer(letters(seed, 400, LETTERS).encode(), np.uint8)

    assert found(0.05, DNA_ALIKE, NUCLEOTIDES, lambda seed: dna(seed, 1000)) > 0.9
    assert found(0.2, DNA_ALIKE, NUCLEOTIDES, lambda seed: dna(seed, 1000)) == 0
    assert found(0.2, PROTEINS_ALIKE, RESIDUES, protein) > 0.9
    assert found(0.5, PROTEINS_ALIKE, RESIDUES, protein) == 0
    assert shared_at(1.0, 11) == 1


def test_random_sequences_are_not_alike():
    assert pairs([dna(seed, 200) for seed in range(300)]) == []


def test_short_and_unknown_sequences_are_too_little_to_tell():
    assert DNA_ALIKE.marks([dna(1, 30), np.full(200, ord("N"), np.uint8), dna(1)])[:2] == [None, None]


def test_the_sieve_keeps_those_that_may_be_alike():
    ours, theirs = DNA_ALIKE.marks([dna(5), dna(7)[10:]]), DNA_ALIKE.marks([dna(7)])

    assert DNA_ALIKE.near(ours, theirs) == [1]


def test_what_fits_into_memory_makes_no_difference(monkeypatch):
    originals = [dna(seed) for seed in range(20)]
    samples = [*originals, *(each[20:] for each in originals)]
    expected = [(number, 20 + number) for number in range(20)]

    assert pairs(samples) == expected
    monkeypatch.setattr("headstart.modalities.minhash._KEPT", 1)
    assert pairs(samples) == expected
