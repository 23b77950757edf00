"""JPEG, the smaller form in which pictures can be stored."""

import io

import numpy as np
from PIL import Image

from headstart.modalities.codec import Codec

QUALITY = 95
"""JPEG quality, with full-resolution chroma: a fifth of the bytes for photographs (docs/studies/jpeg_store.md)."""


def _encode(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    image.save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return buffer.getvalue()


def _decode(content: bytes, picture: np.ndarray) -> None:
    height, width, channels = picture.shape
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        # Checked before decoding, so that no picture takes more memory than expected.
        if image.size != (width, height) or image.mode != ("L" if channels == 1 else "RGB"):
            raise ValueError("another size or mode")
        picture[...] = np.asarray(image).reshape(picture.shape)


JPEG = Codec("jpeg", ".jpegs", _encode, _decode)
