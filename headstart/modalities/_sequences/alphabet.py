"""Alphabets of biological sequences, by the one-letter codes of IUPAC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

_CODES = 256


@dataclass(frozen=True)
class Alphabet:
    """`letters` are those that a network tells apart, and `ambiguous` ones stand for several of them or none, so that
    all are one token. `aliases` are read as other letters, and `end` after the last letter means nothing. `noun` is
    what one letter stands for. `foreign` are letters of another alphabet, and `remedy` what to do then."""

    noun: str
    letters: str
    ambiguous: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    complements: Mapping[str, str] = field(default_factory=dict)
    end: str = ""
    foreign: str = ""
    remedy: str = ""

    @property
    def unknown(self) -> str:
        """The letter that stands for any."""
        return self.ambiguous[0]

    @cached_property
    def stored(self) -> bytes:
        """The stored letter of each of the 256 bytes, in upper case; 0 for bytes that are none of the alphabet."""
        table = bytearray(_CODES)
        for letter in self.letters + self.ambiguous:
            table[ord(letter)] = table[ord(letter.lower())] = ord(letter)
        for letter, meant in self.aliases.items():
            table[ord(letter)] = table[ord(letter.lower())] = ord(meant)
        return bytes(table)

    @cached_property
    def numbers(self) -> np.ndarray:
        """int64 (256,): the place of each stored letter in `letters`; their number for all else."""
        table = np.full(_CODES, len(self.letters), dtype=np.int64)
        for number, letter in enumerate(self.letters):
            table[ord(letter)] = number
        return table

    @cached_property
    def codes(self) -> np.ndarray:
        """uint8 (len(letters),): the bytes of the letters."""
        return np.frombuffer(self.letters.encode(), dtype=np.uint8)

    @cached_property
    def complement(self) -> np.ndarray:
        """uint8 (256,): the letter that pairs with each; those without one, and all else, stay."""
        table = np.arange(_CODES, dtype=np.uint8)
        for letter, paired in self.complements.items():
            table[ord(letter)] = ord(paired)
        return table


# Cornish-Bowden 1985, "Nomenclature for incompletely specified bases in nucleic acid sequences".
NUCLEOTIDES = Alphabet(
    "nucleotide",
    "ACGT",
    "NRYSWKMBDHV",
    {"U": "T"},
    dict(zip("ACGTNRYSWKMBDHV", "TGCANYRSWMKVHDB", strict=True)),
    foreign="EFILPQ",
    remedy="for proteins say modality: protein",
)

# IUPAC-IUB 1984, "Nomenclature and symbolism for amino acids and peptides"; U and O are too rare to be learned.
RESIDUES = Alphabet("residue", "ACDEFGHIKLMNPQRSTVWY", "XBZJUO", end="*")
