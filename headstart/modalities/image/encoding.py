"""Encoding: pictures in memory become the content of files, so that they are read by the rules that files are."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from headstart.errors import InputError

_CHANNELS = (1, 3, 4)
# Modes that PNG holds as they are; others become RGB, as a file of theirs would.
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})


def as_files(value: object) -> Iterator[bytes] | None:
    """Return PNGs, without loss, of a PIL image or of the pictures in an array; None for anything else.

    Arrays are uint8: (H, W) and (H, W, C) are one picture, (N, H, W) and (N, H, W, C) are N; C is 1 (grey), 3 (RGB) or
    4 (RGBA). An array of three axes is one picture if its last has such a length.

    Raises:
        InputError: an array of another type or shape.
    """
    if isinstance(value, Image.Image):
        return iter([_png(ImageOps.exif_transpose(value))])
    if not isinstance(value, np.ndarray) or value.dtype == object:
        return None
    if value.dtype != np.uint8:
        raise InputError(f"An array of {value.dtype} is no picture; give uint8 from 0 to 255.")
    several = value.ndim == 4 or (value.ndim == 3 and value.shape[-1] not in _CHANNELS)
    pictures = value if several else value[None]
    if pictures.ndim not in (3, 4) or (pictures.ndim == 4 and pictures.shape[-1] not in _CHANNELS) or 0 in value.shape:
        raise InputError(
            f"An array of shape {value.shape} is no picture; give (H, W), (H, W, C), (N, H, W) or (N, H, W, C), with "
            "1, 3 or 4 channels."
        )
    return (_png(_picture(each)) for each in pictures)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    (image if image.mode in _MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
