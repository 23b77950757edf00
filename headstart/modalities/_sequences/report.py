"""The section of a data set's report on its sequences as they came: lengths, letters and, of DNA, their GC content."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.html import render
from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities._sequences.section import SequenceInput
from headstart.modalities.histogram import lengths

_MANY = 0.25  # of the sequences
_AMBIGUOUS = 0.05  # of the letters
_WIDE = 0.2  # between the 5th and the 95th percentile of GC contents


def gc_contents(facts: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The share of G and C among the known nucleotides of each sequence that has any, float64 (N,)."""
    counts = np.array([each["counts"] for each in facts], dtype=np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    shares: np.ndarray = (counts[:, 1] + counts[:, 2]) / counts.sum(axis=1)
    return shares


def render_sequences(facts: Sequence[Mapping[str, Any]], given: SequenceInput, alphabet: Alphabet) -> str:
    """The section by the facts of each sequence, at least one, as `decode` tells them."""
    letters = np.array([each["letters"] for each in facts], dtype=np.int64)
    counts = np.array([[*each["counts"], each["ambiguous"]] for each in facts], dtype=np.int64).sum(axis=0)
    gc = gc_contents(facts) if alphabet.complements else np.empty(0)
    return render(
        "modalities/_sequences/report.html",
        given=given,
        noun=alphabet.noun,
        shortest=int(letters.min()),
        longest=int(letters.max()),
        median=round(float(np.median(letters))),
        lengths=lengths(letters, given.length) if letters.min() < letters.max() else None,
        cut=float(np.mean([each["cut"] for each in facts])),
        composition=list(zip([*alphabet.letters, "others"], (counts / counts.sum()).tolist(), strict=True)),
        gc=[float(value) for value in np.percentile(gc, (5, 50, 95))] if len(gc) else None,
    )


def notes(facts: Sequence[Mapping[str, Any]], given: SequenceInput, alphabet: Alphabet) -> list[str]:
    """Whether many sequences are read in part only, many letters are ambiguous, or GC contents are far apart."""
    cut = float(np.mean([each["cut"] for each in facts]))
    ambiguous = sum(each["ambiguous"] for each in facts)
    known = sum(sum(each["counts"]) for each in facts)
    found = []
    if cut >= _MANY:
        found.append(
            f"{cut:.0%} of the sequences are longer than the {given.length:,} letters that are read of each; the rest "
            "of them is not read. input: {length: …} reads more."
        )
    if ambiguous >= _AMBIGUOUS * max(1, known + ambiguous):
        found.append(
            f"{ambiguous / (known + ambiguous):.0%} of the letters stand for no single {alphabet.noun}; all of them "
            "are one token."
        )
    if alphabet.complements and len(gc := gc_contents(facts)):
        low, high = np.percentile(gc, (5, 95))
        if high - low >= _WIDE:
            found.append(
                f"GC content reaches from {low:.0%} to {high:.0%} of a sequence, by which a model may tell "
                "classes apart."
            )
    return found
