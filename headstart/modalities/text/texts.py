"""The section of a data set's report on its texts as they came: lengths, encodings and scripts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.html import render
from headstart.modalities.histogram import lengths
from headstart.modalities.text.section import TextInput

_MANY = 0.25  # of the texts
_LISTED = 8


def render_texts(facts: Sequence[Mapping[str, Any]], given: TextInput) -> str:
    """The section by the facts of each text, at least one, as `decode` tells them."""
    characters, words = (np.array([each[name] for each in facts], dtype=np.int64) for name in ("characters", "words"))
    return render(
        "modalities/text/report.html",
        given=given,
        shortest=int(characters.min()),
        longest=int(characters.max()),
        median=round(float(np.median(characters))),
        words=round(float(np.median(words))),
        lengths=lengths(characters, given.most_bytes) if characters.min() < characters.max() else None,
        cut=float(np.mean([each["cut"] for each in facts])),
        scripts=Counter(each["script"] for each in facts).most_common(_LISTED),
        encodings=Counter(each["encoding"] for each in facts).most_common(),
    )


def notes(facts: Sequence[Mapping[str, Any]], given: TextInput) -> list[str]:
    """Whether many texts are read in part only, or the letters are of several scripts."""
    cut = float(np.mean([each["cut"] for each in facts]))
    scripts = Counter(each["script"] for each in facts)
    found = []
    if cut >= _MANY:
        found.append(
            f"{cut:.0%} of the texts are longer than the {given.most_bytes:,} bytes that are stored of each; the rest "
            "of them is not read. input: {length: …} reads more."
        )
    rare = {script: count for script, count in scripts.items() if script != "none" and count >= _MANY * len(facts)}
    if len(rare) > 1:
        found.append(
            f"The texts are of several scripts ({', '.join(sorted(rare))}), by which a model may tell classes apart."
        )
    return found
