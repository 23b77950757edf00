"""Sequences as people see them: in reports, and as the example request of a registered model."""

import numpy as np
from markupsafe import Markup

from headstart.modalities._sequences.alphabet import Alphabet
from headstart.modalities.shading import shaded

_LONGEST, _LONGEST_SMALL, _BLOCK = 600, 100, 10
_STYLE = "display: block; max-width: {}; font-size: 0.8rem; line-height: 1.35; overflow-wrap: anywhere"


def as_html(values: np.ndarray, alt: str, *, heat: np.ndarray | None = None, small: bool = False) -> str:
    """The beginning of a stored sequence in blocks of ten letters, escaped, called `alt`, under its heat (letters,) in
    [0, 1] where there is one."""
    longest = _LONGEST_SMALL if small else _LONGEST
    letters = values[:longest].tobytes().decode("ascii", "replace")
    strengths = [0.0] * len(letters) if heat is None else heat[:longest].tolist()
    starts = range(0, len(letters), _BLOCK)
    blocks = [zip(letters[at : at + _BLOCK], strengths[at : at + _BLOCK], strict=True) for at in starts]
    shown = Markup(" ").join(map(shaded, blocks))
    if len(values) > longest:
        shown += " …"
    return Markup('<code title="{}" style="{}">{}</code>').format(
        alt, _STYLE.format("16rem" if small else "40rem"), shown
    )


def examples(alphabet: Alphabet) -> list[bytes]:
    """Two sequences."""
    return [(alphabet.letters * 12)[:48].encode(), (alphabet.letters[::-1] * 16)[:60].encode()]
