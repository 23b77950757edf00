"""Shading: pieces of a text in red, the more the stronger."""

from collections.abc import Iterable
from itertools import groupby

from markupsafe import Markup

_LEVELS = 5
# So that black and white letters are read on the strongest.
_STRONGEST = 0.6


def shaded(pieces: Iterable[tuple[str, float]]) -> Markup:
    """Pieces of a text, escaped, each with a strength in [0, 1], as HTML."""
    shown = Markup()
    for level, group in groupby(pieces, key=lambda piece: round(_LEVELS * piece[1])):
        text = "".join(letters for letters, _ in group)
        if level:
            style = f"background: rgb(214 39 40 / {_STRONGEST * level / _LEVELS:.2f})"
            shown += Markup('<span style="{}">{}</span>').format(style, text)
        else:
            shown += text
    return shown
