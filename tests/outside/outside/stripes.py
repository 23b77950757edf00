"""stripes://M-N: the pictures M to N of 16 x 16 pixels; the even ones have stripes across and the others down."""

import io

import numpy as np
from PIL import Image

from headstart.data.kind import Kind, Source, Wanted
from headstart.data.listing import File, Listing

CLASSES = ("across", "down")


class Stripes(Kind):
    scheme = "stripes://"

    def list(self, source: Source, wanted: Wanted) -> Listing:
        first, last = map(int, source.name.removeprefix(self.scheme).split("-"))
        files = tuple(File(f"{number:05d}.png", CLASSES[number % 2], None) for number in range(first, last))
        return Listing(source.name, CLASSES, (), files, (), _picture)


def _picture(path: str) -> bytes:
    number = int(path.removesuffix(".png"))
    generator = np.random.default_rng(number)
    lines = np.where((np.arange(16) + generator.integers(4)) // 2 % 2 == 0, 60, 200)
    picture = np.tile(lines[:, None], (1, 16)) + generator.integers(-40, 40, size=(16, 16))
    buffer = io.BytesIO()
    Image.fromarray((picture if number % 2 == 0 else picture.T).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


KIND = Stripes()
