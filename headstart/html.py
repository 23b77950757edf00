"""Self-contained HTML pages: no scripts, no external styles or images, all values escaped."""

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from headstart.figures import figure

if TYPE_CHECKING:
    import numpy as np


@cache
def _environment() -> Environment:
    # Autoescape, because class names and paths are untrusted text; StrictUndefined, because a missing figure must be an
    # error.
    environment = Environment(
        loader=PackageLoader("headstart", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=lambda share: f"{100 * share:.1f}%",
        signed=lambda value: figure(value, signed=True),
        fixed=figure,
        count=lambda number: f"{number:,}",
        duration=_duration,
        bytes=_in_bytes,
    )
    return environment


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _in_bytes(count: float) -> str:
    """A number of bytes with three digits or so."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def render(template: str, **context: Any) -> str:
    """Render a template, given by its path in the package, for example data/report.html. Every value is escaped."""
    return _environment().get_template(template).render(**context)


def image_uri(pixels: "np.ndarray") -> str:
    """Encode a uint8 array (H, W), (H, W, 1) or (H, W, 3) as a `data:` URI holding a PNG."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
