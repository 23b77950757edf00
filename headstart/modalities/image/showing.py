"""Pictures as people see them: in reports, and as the example request of a registered model."""

import io

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.html import image_uri

_THUMBNAIL = 64  # pixels: what a page's grid shows, so that large samples do not make a heavy page


def as_html(pixels: np.ndarray, alt: str, *, heat: np.ndarray | None = None, small: bool = False) -> str:
    """A picture, uint8 (H, W, C), as an element of HTML; in grey under its map (H, W) in [0, 1] where there is one."""
    shown = pixels if heat is None else overlay(pixels, heat)
    if small and shown.shape[0] > _THUMBNAIL:
        image = Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown)
        shown = np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR))
    return Markup('<img src="{}" alt="{}">').format(image_uri(shown), alt)


def overlay(sample: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture uint8 (H, W, C) in grey under its map (H, W), as uint8 (H, W, 3): the redder, the more it counts."""
    grey = np.repeat(sample.mean(axis=2, keepdims=True), 3, axis=2)
    strength = 0.75 * heat[:, :, None]
    red = np.array([255.0, 60.0, 0.0])
    return np.clip(grey * (1 - strength) + red * strength, 0, 255).astype(np.uint8)


def examples(size: int) -> list[bytes]:
    """Two PNG files of `size` pixels a side."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    files = []
    for pixels in (np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size))):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        files.append(file.getvalue())
    return files
