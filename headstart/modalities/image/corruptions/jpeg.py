"""JPEG: saved at a quality of 40, 20 or 8 and read again."""

import io

import numpy as np
from PIL import Image

from headstart.modalities.corruption import Corruption


def jpeg(samples: np.ndarray, severity: int) -> np.ndarray:
    found = np.empty(samples.shape, dtype=np.uint8)
    for sample, target in zip(samples, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(sample[:, :, 0] if sample.shape[2] == 1 else sample).save(
            buffer, "JPEG", quality=(40, 20, 8)[severity - 1]
        )
        with Image.open(buffer, formats=("JPEG",)) as image:
            target[:] = np.asarray(image).reshape(sample.shape)
    return found


CORRUPTION = Corruption("JPEG", jpeg, place=7)
