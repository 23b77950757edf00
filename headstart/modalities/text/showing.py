"""Texts as people see them: in reports, and as the example request of a registered model."""

import numpy as np
from markupsafe import Markup

_LONGEST, _LONGEST_SMALL = 600, 120
_STYLE = (
    "margin: 0; padding: 0.4rem 0.6rem; border-left: 3px solid currentColor; max-width: {}; font-size: 0.85rem; "
    "line-height: 1.35; overflow-wrap: anywhere; white-space: pre-line"
)


def as_html(values: np.ndarray, alt: str, *, small: bool = False) -> str:
    """The beginning of a stored text, escaped, as a quotation called `alt`; `small`: its first words."""
    text = values.tobytes().decode("utf-8", "replace")
    longest = _LONGEST_SMALL if small else _LONGEST
    shown = text if len(text) <= longest else text[:longest].rstrip() + " …"
    if small:
        shown = " ".join(shown.split())
    return Markup('<blockquote title="{}" style="{}">{}</blockquote>').format(
        alt, _STYLE.format("16rem" if small else "36rem"), shown
    )


def examples() -> list[bytes]:
    """Two texts."""
    return [b"The match ended late, and nobody went home before the last goal.", b"Shares fell after the report."]
