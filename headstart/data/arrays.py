"""Pictures in arrays: each is converted to a file's content, so that all samples are hashed and decoded in one way.

The format is PGM or PPM (https://netpbm.sourceforge.net/doc/pgm.html): a header with the size, then the pixels.
"""

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from headstart.data.limits import MAX_ENTRIES, MIB
from headstart.data.listing import File, Labels, Listing, check_classes, natural
from headstart.errors import HeadstartError, InputError

_SPLITS = ("train", "val", "test")
_MAX_SIDE = 8192


@dataclass(frozen=True)
class Pictures:
    """Arrays of one split, or of all pictures if `split` is None.

    `pixels` is uint8, uint16 or bool, (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); `labels` holds the name of
    each picture's class, `groups` that of its group; both may be None.
    """

    split: str | None
    pixels: np.ndarray
    labels: Sequence[str] | None
    groups: Sequence[str] | None = None


def list_arrays(name: str, parts: Sequence[Pictures], labels: Labels, classes: Sequence[str] | None = None) -> Listing:
    """List pictures in arrays, with the paths `<split>/<number>`. `classes` are the names by index.

    Raises:
        InputError: an array does not hold pictures, labels are missing or too few, or `check_classes` raises.
    """
    stacks = {part.split: _as_stack(part, name) for part in parts}
    files: list[File] = []
    known = labels != "none" and all(part.labels is not None for part in parts)
    if labels == "required" and not known:
        raise InputError(f"{name} has no labels for its pictures; add an array of them.")
    for part in parts:
        for kind, values in (("labels", part.labels), ("groups", part.groups)):
            if values is not None and len(values) != len(part.pixels):
                raise InputError(
                    f"{name} has {len(part.pixels)} pictures but {len(values)} {kind}; make them one each."
                )
        for number in range(len(part.pixels)):
            label = part.labels[number] if known and part.labels is not None else ""
            group = part.groups[number] if part.groups is not None else None
            files.append(File(f"{part.split or 'all'}/{number:07}", label, part.split, group))
    if len(files) > MAX_ENTRIES:
        raise InputError(f"{name} has more than {MAX_ENTRIES:,} pictures; split it.")
    present = {file.label for file in files} if known else set()

    def read(path: str) -> bytes:
        split, _, number = path.partition("/")
        return encoded(stacks[None if split == "all" else split][int(number)])

    listing = Listing(
        name=name,
        classes=tuple(label for label in classes or natural(present) if label in present),
        splits=tuple(split for split in _SPLITS if split in stacks),
        files=tuple(sorted(files, key=lambda file: file.path)),
        refused=(),
        read=read,
    )
    if known:
        check_classes(listing, labels)
    elif not files:
        raise InputError(f"{name} has no pictures; add some.")
    return listing


def encoded(pixels: np.ndarray) -> bytes:
    """Encode a picture, uint8 or uint16 (H, W) or (H, W, 3), as PGM or PPM."""
    height, width = pixels.shape[:2]
    depth = 255 if pixels.dtype == np.uint8 else 65535
    magic = "P5" if pixels.ndim == 2 else "P6"
    # The format is big-endian.
    order = pixels if depth == 255 else pixels.astype(">u2")
    return f"{magic}\n{width} {height}\n{depth}\n".encode() + order.tobytes()


def on_disk(file: IO[bytes], size: int, name: str, scratch: Path | None) -> BinaryIO:
    """Copy the next `size` bytes to an anonymous temporary file.

    Raises:
        InputError: there are fewer, or more after them.
    """
    copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the caller closes it
    left = size
    try:
        while left and (chunk := file.read(min(MIB, left))):
            copy.write(chunk)
            left -= len(chunk)
        more = file.read(1)
    except (EOFError, OSError, zlib.error) as error:
        raise _failed(error, name) from error
    if left or more:
        raise InputError(f"{name} has {'less' if left else 'more'} content than it announces; fetch it again.")
    copy.flush()
    return copy


def _failed(error: Exception, name: str) -> HeadstartError:
    if isinstance(error, OSError) and error.errno is not None:
        return HeadstartError(f"{name} cannot be unpacked ({error.strerror}); make room and run again.")
    return InputError(f"{name} is damaged ({error}); fetch it again.")


def _as_stack(part: Pictures, name: str) -> np.ndarray:
    """Return a view (N, H, W) or (N, H, W, 3)."""
    pixels = part.pixels
    if pixels.dtype == np.bool_:
        pixels = pixels.view(np.uint8) * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{name} has pixels of type {pixels.dtype}, whose range nobody knows; save them as uint8 from 0 to 255."
        )
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] != 3):
        raise InputError(f"{name} has an array of shape {part.pixels.shape}, which is no row of grey or RGB pictures.")
    if not all(1 <= side <= _MAX_SIDE for side in pixels.shape[1:3]):
        raise InputError(f"{name} has pictures of {pixels.shape[2]} × {pixels.shape[1]} pixels; give 1 to {_MAX_SIDE}.")
    return pixels
