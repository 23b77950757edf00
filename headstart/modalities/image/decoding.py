"""Decoding: the content of an image file becomes a square uint8 array (H, W, C)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from headstart.modalities import UnreadableSample
from headstart.modalities.image.section import Fit, Interpolation
from headstart.modalities.room import NoRoom, Room

# A file is opened by these decoders only, whatever its name says: some of Pillow's others run programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 64_000_000
_OVERSIZED = f"the image has more than {_MAX_PIXELS // 1_000_000} megapixels; shrink it"
# Memory for decoding in a process. A picture of 16 megapixels takes an eighth of it.
_ROOM = Room(2**30)
# At most, measured: what a decoder holds, and the pixels for the resize. WebP's decoder keeps two canvases.
_BYTES_A_PIXEL = {"WEBP": 20}
_BYTES_A_PIXEL_ELSEWHERE = 8
# Costs in pixels of a PNG: one for eight pixels of a JPEG that is decoded at an eighth of its size, and so many for
# opening a file.
_DRAFTED_A_PIXEL = 8
_PIXELS_A_FILE = 4096
_PIXELS_A_STRIP = 2**20
# Of a picture that is resized whole: a line of pixels would become gigabytes.
_LONGEST_SIDE = 20_000
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})


def pixels(raw: bytes, size: int, *, resize: int | None = None) -> int:
    """The number of pixels that `decode` to `size` works on, by the file's header; raises UnreadableSample."""
    with _opened(raw) as image:
        whole = _held(image)
        decoded = whole if resize else _draft(image, size)
        return max(decoded, whole // _DRAFTED_A_PIXEL, size * size, _PIXELS_A_FILE)


def decode(
    raw: bytes,
    size: int,
    channels: int | None = None,
    *,
    fit: Fit = "crop",
    resize: int | None = None,
    interpolation: Interpolation | None = None,
    room: Room | None = None,
    patience: float | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture in a file's content as uint8 (size, size, channels), and its own width and height in pixels, as it is
    shown; raises UnreadableSample.

    `channels` is 1 (grey), 3 (RGB) or None: 1 for a picture stored as grey, 3 for any other. With `fit` crop, the
    largest centred square of whole pixels (where none is in the middle, the one above it or left of it) is resized to
    `size`; with pad the whole picture is, until its longer side is `size`, and the rest of the square is black; with
    stretch each side is. The filter is antialiased bilinear where the picture shrinks and bicubic where it grows. With
    `resize`, pixels are those of torchvision's and timm's evaluation: the whole picture is decoded in full detail, its
    shorter side (with stretch, each side) resized to `resize` by Pillow's `interpolation` (bilinear), and the centred
    square of `size` kept.
    Every kind of picture has one meaning:

    ===================  ====================================================================
    grey, two-level      one channel; black 0, white 255
    palette              the colours that it stands for, three channels
    alpha, in any mode   laid over white
    CMYK, YCbCr, Lab     RGB as Pillow converts them; embedded colour profiles are not applied
    16 bits a channel    scaled to 8, not clipped; of colour TIFF and PNG as Pillow reads them
    32 bits, float       refused: nobody knows their range
    animation, pages     the first
    EXIF orientation     applied
    truncated, damaged   refused, whatever part could be decoded
    > 64 megapixels      refused by the header, before anything is decoded
    ===================  ====================================================================

    The memory that this takes comes out of `room`, by default one of the process; NoRoom if it was not free within
    `patience` seconds.
    """
    with _opened(raw) as image:
        width, height = image.size
        held = _held(image) if resize else _draft(image, size)
        drafted = image.size
        a_pixel = _BYTES_A_PIXEL.get(image.format or "", _BYTES_A_PIXEL_ELSEWHERE)
        with (room or _ROOM).take(held * a_pixel, patience):
            ImageOps.exif_transpose(image, in_place=True)
            shown = (width, height) if image.size == drafted else (height, width)
            if resize:
                return _by_card(image, size, channels, fit, resize, interpolation or "bilinear"), shown
            return _to_array(image, size, channels, fit), shown


@contextmanager
def _opened(raw: bytes) -> Iterator[Image.Image]:
    """The picture in a file's content, of which only the header is read; raises UnreadableSample, also for what is
    found when the rest is."""
    if not raw:
        raise UnreadableSample("the file is empty")
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
            if _held(image) > _MAX_PIXELS:
                raise UnreadableSample(_OVERSIZED)
            yield image
    except (UnreadableSample, NoRoom):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableSample("its content is not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableSample(_OVERSIZED) from error
    # Decoders meet hostile bytes here and raise whatever their parser stumbles on (struct.error, IndexError, …).
    except Exception as error:
        raise UnreadableSample(f"the image is damaged: {error}") from error


def _draft(image: Image.Image, size: int) -> int:
    """Lets the JPEG decoder drop detail that a resize to `size` would drop; twice the size keeps its filter.

    Returns how many pixels the decoder holds then.
    """
    whole = _held(image)
    image.draft(None, (2 * size, 2 * size))
    # The scans of a progressive one are put together before anything is dropped.
    return whole if image.info.get("progressive") else _held(image)


def _held(image: Image.Image) -> int:
    """The number of pixels that the decoder holds: those of the picture, or of a TIFF's tile, which may be larger."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(TILEWIDTH, 0) * tags.get(TILELENGTH, 0)
    return max(image.width * image.height, tile)


def _to_array(image: Image.Image, size: int, channels: int | None, fit: Fit) -> np.ndarray:
    _refuse_unknown_range(image)
    grey = image.mode in _GREY_MODES if channels is None else channels == 1
    width, height = image.size
    if fit == "crop":
        width = height = min(width, height)
    part = _centre(image, (width, height), "L" if grey else "RGB")
    if fit != "pad":
        resized = _resized(part, (size, size))
        return resized[:, :, None] if grey else resized
    longer = max(width, height)
    inner = max(1, round(width * size / longer)), max(1, round(height * size / longer))
    whole = np.zeros((size, size) if grey else (size, size, 3), dtype=np.uint8)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    whole[top : top + inner[1], left : left + inner[0]] = _resized(part, inner)
    return whole[:, :, None] if grey else whole


def _refuse_unknown_range(image: Image.Image) -> None:
    if image.mode == "F":
        raise UnreadableSample("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode == "I":
        values = np.array(image.getextrema())
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableSample("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits")


def _by_card(
    image: Image.Image, size: int, channels: int | None, fit: Fit, resize: int, interpolation: Interpolation
) -> np.ndarray:
    """The picture resized and cut as torchvision's Resize and CenterCrop do, uint8 (size, size, channels)."""
    _refuse_unknown_range(image)
    grey = image.mode in _GREY_MODES if channels is None else channels == 1
    whole = _converted(image, "L" if grey else "RGB")
    width, height = whole.size
    # torchvision rounds the longer side down, and the crop's corner to the nearest, halves to even.
    sides = (resize, resize) if fit == "stretch" else _shorter_to(resize, width, height)
    if max(sides) > _LONGEST_SIDE:
        raise UnreadableSample(f"the picture is {width} × {height}, too long to be resized whole; cut it")
    if sides != whole.size:
        whole = whole.resize(sides, Image.Resampling[interpolation.upper()])
    left, top = round((sides[0] - size) / 2), round((sides[1] - size) / 2)
    values = np.asarray(whole.crop((left, top, left + size, top + size)))
    return values[:, :, None] if grey else values


def _shorter_to(resize: int, width: int, height: int) -> tuple[int, int]:
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _resized(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 (height, width) or (height, width, 3), at a size (width, height), which may be its own."""
    if part.shape[:2] == size[::-1]:
        return part
    if part.ndim == 3 and part.shape[0] > size[1] and part.shape[1] > size[0]:
        return _shrunk(part, size)
    grows = part.shape[0] < size[1] or part.shape[1] < size[0]
    kernel = Image.Resampling.BICUBIC if grows else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(part).resize(size, kernel))


def _centre(image: Image.Image, size: tuple[int, int], mode: str) -> np.ndarray:
    """The centred part of a picture, of a size (width, height), as uint8 (height, width) in mode L, (height, width, 3)
    in mode RGB.

    It is converted a strip at a time, as the steps between the modes take several times the memory of the picture.
    """
    width, height = size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    part = np.empty((height, width) if mode == "L" else (height, width, 3), dtype=np.uint8)
    rows = max(1, _PIXELS_A_STRIP // width)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        part[start:end] = np.asarray(_converted(image.crop((left, top + start, left + width, top + end)), mode))
    return part


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _sixteen_to_eight_bits(image)
    elif image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return image if image.mode == mode else image.convert(mode)


def _shrunk(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture, uint8 (H, W, 3), at a smaller size (width, height).

    PyTorch has Pillow's filter, give or take 1 of 255, and takes a quarter of the time. It is imported where there is
    something to shrink.
    """
    import torch
    from torch.nn.functional import interpolate

    batch = torch.from_numpy(part).unsqueeze(0).permute(0, 3, 1, 2)
    shrunk = interpolate(batch, (size[1], size[0]), mode="bilinear", antialias=True)
    return np.ascontiguousarray(shrunk[0].permute(1, 2, 0).numpy())


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
