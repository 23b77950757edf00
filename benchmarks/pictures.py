"""Pictures to load: JPEGs of 500 × 375 pixels with the statistics of photographs, all of them different.

The amplitudes of photographs fall with the frequency f as 1/f or somewhat faster, and their colours vary far less than
their brightness (Ruderman, Cronin and Chiao 1998). Each picture blends two places of two large random fields of that
kind. At quality 90, with colours of half the resolution, its file has the size of a photograph's, and so takes as long
to decode. Which places, depends on the picture's number alone.
"""

import functools
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from headstart.storage.local import new_directory

CLASSES = 10
WIDTH, HEIGHT, QUALITY = 500, 375, 90

_SEED = 0
_SIDE = 2048
# One field of each: in photographs they range over this and more, 1.2 in the mean (Tolhurst, Tadmor and Chao 1992).
_SLOPES = (1.0, 1.1, 1.2, 1.3)
# Red, green and blue of what is bright, yellow against blue, and red against green.
_COLOURS = np.array([[1, 1, 1], [0.15, 0.15, -0.3], [0.1, -0.1, 0]], dtype=np.float32)
# White noise, as a sensor's, of the deviation of the field that it is laid over.
_GRAIN = 0.03
_IN_A_TASK = 250


def picture_set(cache: Path, name: str, parts: Mapping[str, range]) -> Path:
    """A folder below `cache` that has, for each part, `<part>/<class>/<number>.jpg` for the pictures of these numbers;
    a part called "" has its classes at the top. Pictures that are not there yet are made."""
    path = cache / f"{name}-{'-'.join(str(len(numbers)) for numbers in parts.values())}"
    if not path.exists():
        pool = _made(cache / "pictures", max(numbers.stop for numbers in parts.values()))
        with new_directory(path) as draft:
            for part, numbers in parts.items():
                for label in range(CLASSES):
                    (draft / part / f"class-{label}").mkdir(parents=True)
                for number in numbers:
                    os.link(_file(pool, number), draft / part / f"class-{number % CLASSES}" / f"{number:06}.jpg")
    return path


def read_all(folder: Path) -> int:
    """The bytes of all files below `folder`, which are then in the system's page cache."""
    return sum(len(path.read_bytes()) for path in folder.rglob("*.jpg"))


def picture(number: int) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3)."""
    random = np.random.default_rng((_SEED, number))
    one, other = random.choice(len(_SLOPES), 2, replace=False)
    angle = random.uniform(0.2, 0.8) * np.pi / 2
    contrast, brightness = random.uniform(35, 65), random.uniform(95, 155)
    pixels = _place(one, random) * np.float32(contrast * np.cos(angle))
    pixels += _place(other, random) * np.float32(contrast * np.sin(angle))
    pixels += np.float32(brightness)
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def _made(pool: Path, count: int) -> Path:
    """The folder with the first `count` pictures at least, made in as many processes as there are processors."""
    pool.mkdir(parents=True, exist_ok=True)
    there = {entry.name for entry in os.scandir(pool)}
    missing = [number for number in range(count) if _file(pool, number).name not in there]
    if missing:
        # Forked processes have the fields of this one.
        _fields()
        parts = [missing[start : start + _IN_A_TASK] for start in range(0, len(missing), _IN_A_TASK)]
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as processes:
            list(processes.map(functools.partial(_save, pool), parts))
    return pool


def _save(pool: Path, numbers: list[int]) -> None:
    from PIL import Image

    for number in numbers:
        path = _file(pool, number)
        draft = path.with_suffix(f".{os.getpid()}")
        Image.fromarray(picture(number)).save(draft, "JPEG", quality=QUALITY, subsampling="4:2:0")
        draft.rename(path)


def _file(pool: Path, number: int) -> Path:
    return pool / f"{number:06}.jpg"


def _place(field: int, random: np.random.Generator) -> np.ndarray:
    """Somewhere in a field, mirrored or not."""
    top, left = random.integers(_SIDE - HEIGHT), random.integers(_SIDE - WIDTH)
    found = _fields()[field][top : top + HEIGHT, left : left + WIDTH]
    return found[:: random.choice((1, -1)), :: random.choice((1, -1))]


@functools.cache
def _fields() -> np.ndarray:
    """float32 (len(_SLOPES), _SIDE, _SIDE, 3), each channel of mean 0, brightness of deviation 1."""
    random = np.random.default_rng(_SEED)
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
    # There is no constant part.
    frequency[0, 0] = np.inf
    fields = np.empty((len(_SLOPES), _SIDE, _SIDE, 3), dtype=np.float32)
    for field, slope in zip(fields, _SLOPES, strict=True):
        amplitude = frequency**-slope
        waves = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((_SIDE, _SIDE))) * amplitude) for _ in _COLOURS]
        opponents = np.stack([wave / wave.std() for wave in waves], axis=-1).astype(np.float32)
        field[:] = opponents @ _COLOURS
        field += random.standard_normal(field.shape, dtype=np.float32) * np.float32(_GRAIN)
    return fields
