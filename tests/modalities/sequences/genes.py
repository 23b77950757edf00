"""Small sequences of two kinds, made where they are needed: with GATTACA or TGTAATC in them, or as residues."""

from pathlib import Path

import numpy as np

NUCLEOTIDES, RESIDUES = "ACGT", "ACDEFGHIKLMNPQRSTVWY"
CLASSES = ("forward", "reverse")
MOTIF = {"forward": "GATTACA", "reverse": "TGTAATC"}


def letters(seed: int, count: int, alphabet: str = NUCLEOTIDES) -> str:
    """Random letters."""
    return "".join(np.random.default_rng([77, seed]).choice(list(alphabet), count))


def gene(label: str, seed: int, *, count: int = 60, motifs: int = 3) -> str:
    """Random nucleotides that hold the class's motif a few times."""
    generator = np.random.default_rng([CLASSES.index(label), seed])
    found = list(letters(1000 * CLASSES.index(label) + seed, count))
    for start in generator.choice(count // 8, motifs, replace=False) * 8:
        found[start : start + 7] = MOTIF[label]
    return "".join(found[:count])


def write(path: Path, count: int, *, seed: int = 0, motifs: int = 3) -> Path:
    """`count` records of each class as FASTA."""
    with path.open("w") as file:
        for number in range(count):
            for label in CLASSES:
                sequence = gene(label, 1000 * seed + number, motifs=motifs)
                file.write(f">{label}-{number} some gene label={label}\n{sequence[:40].lower()}\n{sequence[40:]}\n")
    return path
