"""Texts as people see them: in reports, and as the example request of a registered model."""

import numpy as np
from markupsafe import Markup

from headstart.modalities.shading import shaded

_LONGEST, _LONGEST_SMALL = 600, 120
_STYLE = (
    "margin: 0; padding: 0.4rem 0.6rem; border-left: 3px solid currentColor; max-width: {}; font-size: 0.85rem; "
    "line-height: 1.35; overflow-wrap: anywhere; white-space: pre-line"
)


def as_html(values: np.ndarray, alt: str, *, heat: np.ndarray | None = None, small: bool = False) -> str:
    """The beginning of a stored text, escaped, as a quotation called `alt`, under its heat (bytes,) in [0, 1] where
    there is one; `small`: its first words."""
    text = values.tobytes().decode("utf-8", "replace")
    longest = _LONGEST_SMALL if small else _LONGEST
    text, rest = (text, "") if len(text) <= longest else (text[:longest].rstrip(), " …")
    shown = " ".join(text.split()) if small else text
    if heat is not None:
        shown = shaded(zip(text, _of_letters(text, heat), strict=True))
    return Markup('<blockquote title="{}" style="{}">{}</blockquote>').format(
        alt, _STYLE.format("16rem" if small else "36rem"), shown + rest
    )


def _of_letters(text: str, heat: np.ndarray) -> list[float]:
    """The heat of each character, that of its first byte, and none beyond and between words."""
    places = np.cumsum([0, *(len(letter.encode()) for letter in text)])[:-1]
    strengths = np.append(heat, 0.0)[np.minimum(places, len(heat))].tolist()
    return [0.0 if letter.isspace() else strength for letter, strength in zip(text, strengths, strict=True)]


def examples() -> list[bytes]:
    """Two texts."""
    return [b"The match ended late, and nobody went home before the last goal.", b"Shares fell after the report."]
