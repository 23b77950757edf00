"""Images: files of the usual raster formats become square uint8 arrays (H, W, C)."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from headstart.modalities import UnreadableSample
from headstart.modalities.room import NoRoom, Room

if TYPE_CHECKING:
    import torch

# What Pillow warns about either decodes well or raises; users hear of it where it makes a file unreadable.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A file is opened by these decoders only, whatever its name says: some of Pillow's others run programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 64_000_000
_OVERSIZED = f"the image has more than {_MAX_PIXELS // 1_000_000} megapixels; shrink it"
# Of what is decoded at a time in a process. A picture of 16 megapixels takes an eighth of it.
_ROOM = Room(2**30)
# At most, measured: what a decoder holds, and the pixels for the resize. WebP's decoder keeps two canvases.
_BYTES_A_PIXEL = {"WEBP": 20}
_BYTES_A_PIXEL_ELSEWHERE = 8
# What takes as long as a pixel of a PNG: eight of a JPEG that is decoded at an eighth of its size; and opening a file
# takes as long as so many of them.
_DRAFTED_A_PIXEL = 8
_PIXELS_A_FILE = 4096
_PIXELS_A_STRIP = 2**20
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})

# How the content of each format begins; of WebP, whose length comes first, see `contradiction`.
_SIGNATURES = {
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_FORMAT_OF = {
    ".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".pbm": "PPM", ".pgm": "PPM", ".png": "PNG",
    ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip

extensions = frozenset(_FORMAT_OF)
default_architecture = "convnet"
decoding = f"image 3, Pillow {PIL.__version__}, PyTorch {version('torch')}"
draws_per_sample = 10


def default_size(architecture: str) -> int:
    """Side length in pixels: 32 for convnet, 224, on which ImageNet weights are trained, for all others."""
    return 32 if architecture == "convnet" else 224


def contradiction(raw: bytes, extension: str) -> str | None:
    """What is wrong where a file's content is of another known format than its name says; None elsewhere."""
    named = _FORMAT_OF.get(extension)
    found = next((name for name, begins in _SIGNATURES.items() if raw.startswith(begins)), None)
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        found = "WEBP"
    if named is None or found in (None, named):
        return None
    return f"its name says {named}, but its content is {found}; rename it"


def pixels(raw: bytes, size: int) -> int:
    """How many pixels `decode` to `size` works on, as the file's header tells; raises UnreadableSample."""
    with _opened(raw) as image:
        whole = _held(image)
        return max(_draft(image, size), whole // _DRAFTED_A_PIXEL, size * size, _PIXELS_A_FILE)


def decode(
    raw: bytes, size: int, channels: int | None = None, *, room: Room | None = None, patience: float | None = None
) -> np.ndarray:
    """The picture in a file's content as uint8 (size, size, channels); raises UnreadableSample.

    `channels` is 1 (grey), 3 (RGB) or None: 1 for a picture stored as grey, 3 for any other. The largest centred
    square of whole pixels (where none is in the middle, the one above it or left of it) is resized to `size`, with an
    antialiased bilinear filter when it shrinks and bicubic when it grows. Every kind of picture has one meaning:

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
    return decode_sized(raw, size, channels, room=room, patience=patience)[0]


def decode_sized(
    raw: bytes, size: int, channels: int | None = None, *, room: Room | None = None, patience: float | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """What `decode` gives, and the picture's own width and height in pixels, as it is shown."""
    with _opened(raw) as image:
        width, height = image.size
        held = _draft(image, size)
        drafted = image.size
        a_pixel = _BYTES_A_PIXEL.get(image.format or "", _BYTES_A_PIXEL_ELSEWHERE)
        with (room or _ROOM).take(held * a_pixel, patience):
            ImageOps.exif_transpose(image, in_place=True)
            shown = (width, height) if image.size == drafted else (height, width)
            return _to_array(image, size, channels), shown


def augment(
    batch: "torch.Tensor", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
) -> "torch.Tensor":
    """Moves each picture of a batch (N, H, W, C) as its `draws` say, and mirrors half of them if `flip`.

    `crop` shifts by up to 1/8 of the side and fills what that uncovers with the picture's mirror image: a random crop
    after reflection padding (He et al. 2016, section 4.2). `affine` scales by 0.75 to 1.25 and each axis by another
    0.87 to 1.15, turns by up to 9° and shifts by up to 1/10 of the side, border pixels repeated. It costs more and
    carries further: a convnet trained on MNIST-5k reads another scanner's digits, which are larger in their frame,
    with an accuracy of 0.54 (0.42 to 0.67 over four seeds) instead of 0.19 (0.10 to 0.26) before any training there.
    `views`, for training without labels, goes further: it scales by 0.6 to 1.2, turns by up to 14° and shifts by up to
    1/8, and it also blurs two thirds of the pictures, changes contrast by up to 40%, brightness by up to 20% and
    saturation by up to 60%, a fifth of the pictures becoming grey (after Chen et al. 2020, appendix A).
    `flip` suits pictures whose meaning survives a mirror, not digits.

    Args:
        draws: float32 (N, `draws_per_sample`) in [0, 1), on any device.
        strength: the share of those ranges that is used, from 0 (nothing moves) to 2.
    """
    draws = draws.to(batch.device, non_blocking=True)
    moved = {"crop": _shift, "affine": _warp, "views": _view}[method](batch, draws, strength)
    return _mirror(moved, draws[:, 0] < 0.5) if flip else moved


def _mirror(batch: "torch.Tensor", chosen: "torch.Tensor") -> "torch.Tensor":
    """The batch, which may be changed, with those pictures mirrored for which `chosen`, bool (N,), is true."""
    import torch

    if batch.device.type != "cpu":
        return torch.where(chosen[:, None, None, None], batch.flip(2), batch)
    # NumPy copies whole pictures where torch chooses value by value; torch mirrors several times as fast as NumPy.
    pictures, rows = batch.numpy(), chosen.numpy()
    pictures[rows] = torch.from_numpy(pictures[rows]).flip(2).numpy()
    return batch


def _shift(batch: "torch.Tensor", draws: "torch.Tensor", strength: float) -> "torch.Tensor":
    down, right = (_steps(batch.shape[axis], draws[:, axis], strength) for axis in (1, 2))
    return (_shifted_by_slices if batch.device.type == "cpu" else _shifted_by_index)(batch, down, right)


def _steps(length: int, draws: "torch.Tensor", strength: float) -> "torch.Tensor":
    """By how many pixels each sample moves along an axis."""
    reach = round(strength * (length // 8))
    return (draws * (2 * reach + 1)).long() - reach


def _shifted_by_index(batch: "torch.Tensor", down: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """Pixel (y, x) of a picture is its pixel (y + down, x + right), beyond the border that of its mirror image.

    All pictures at once, as a GPU wants it.
    """
    import torch

    def source(length: int, steps: torch.Tensor) -> torch.Tensor:
        indices = (torch.arange(length, device=batch.device) + steps[:, None]).abs()
        return (length - 1) - ((length - 1) - indices).abs()

    count, height, width, _ = batch.shape
    samples = torch.arange(count, device=batch.device)
    return batch[samples[:, None, None], source(height, down)[:, :, None], source(width, right)[:, None, :]]


def _shifted_by_slices(batch: "torch.Tensor", down: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """The same for a CPU, which copies stretches of memory, those of 224 pixels in a tenth of the time of an index."""
    import torch

    # Pixels of C bytes, which move as one.
    pictures = batch.contiguous().numpy().view(f"V{batch.shape[3]}")[..., 0]
    shifted = np.empty_like(pictures)
    for source, target, y, x in zip(pictures, shifted, down.tolist(), right.tolist(), strict=True):
        # Towards the other side is the same, looked at in a mirror.
        if y < 0:
            source, target, y = source[::-1], target[::-1], -y
        if x < 0:
            source, target, x = source[:, ::-1], target[:, ::-1], -x
        height, width = source.shape
        target[: height - y, : width - x] = source[y:, x:]
        target[: height - y, width - x :] = source[y:, width - 1 - x : -1][:, ::-1]
        # The lines that the picture has not are already there, in the reverse order.
        target[height - y :] = target[height - 1 - 2 * y : height - 1 - y][::-1]
    return torch.from_numpy(shifted.view(np.uint8).reshape(batch.shape))


def _warp(batch: "torch.Tensor", draws: "torch.Tensor", strength: float) -> "torch.Tensor":
    return _to_pixels(_warped(_from_pixels(batch), draws, strength, (0.75, 1.25), (0.87, 1.15), 0.157, 0.2))


def _view(batch: "torch.Tensor", draws: "torch.Tensor", strength: float) -> "torch.Tensor":
    import torch
    from torch.nn import functional as F

    def uniform(column: int, low: float, high: float) -> torch.Tensor:
        return (strength * (low + (high - low) * draws[:, column]))[:, None, None, None]

    images = _warped(_from_pixels(batch), draws, strength, (0.6, 1.2), (0.82, 1.22), 0.25, 0.25)
    side = 2 * (images.shape[-1] // 24) + 1
    blurred = images
    for _ in range(2):
        blurred = F.avg_pool2d(blurred, side, stride=1, padding=side // 2, count_include_pad=False)
    images = torch.lerp(images, blurred, uniform(6, -0.5, 1.0).clamp(min=0))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + uniform(7, -0.4, 0.4)) + 255 * uniform(8, -0.2, 0.2)
    if images.shape[1] > 1:
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * (1 + uniform(9, -1.4, 0.6)).clamp(min=0)
    return _to_pixels(images.clamp_(0, 255))


def _warped(
    images: "torch.Tensor",
    draws: "torch.Tensor",
    strength: float,
    scales: tuple[float, float],
    stretches: tuple[float, float],
    angle: float,
    shift: float,
) -> "torch.Tensor":
    """Images (N, C, H, W) scaled, stretched along one axis, turned by up to `angle` radians and shifted by up to
    `shift` halves of the side, border pixels repeated; draws 1 to 5 say how far."""
    import torch
    from torch.nn import functional as F

    def uniform(column: int, low: float, high: float, neutral: float) -> torch.Tensor:
        return neutral + strength * (low - neutral + (high - low) * draws[:, column])

    # The matrix maps output to input coordinates in [-1, 1], so a scale below 1 enlarges.
    scale, stretch = uniform(1, *scales, 1.0), uniform(2, *stretches, 1.0)
    turn = uniform(3, -angle, angle, 0.0)
    cosine, sine = torch.cos(turn), torch.sin(turn)
    right, down = uniform(4, -shift, shift, 0.0), uniform(5, -shift, shift, 0.0)
    rows = [scale * stretch * cosine, -scale * sine, right, scale * sine, scale / stretch * cosine, down]
    # What affine_grid computes, as one product for all pictures, which takes a seventh of its time at 224 pixels.
    y, x = torch.meshgrid(*(_centres(length, images.device) for length in images.shape[2:]), indexing="ij")
    places = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])
    grid = (torch.stack(rows, dim=1).reshape(-1, 3) @ places).view(len(images), 2, *x.shape).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _centres(length: int, device: "torch.device") -> "torch.Tensor":
    """float32 (length,): where the centres of an axis's pixels are if its ends are -1 and 1."""
    import torch

    return (2 * torch.arange(length, device=device) + 1) / length - 1


def _from_pixels(batch: "torch.Tensor") -> "torch.Tensor":
    """uint8 (N, H, W, C) to float32 (N, C, H, W)."""
    return batch.permute(0, 3, 1, 2).float()


def _to_pixels(images: "torch.Tensor") -> "torch.Tensor":
    import torch

    return images.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


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
    """How many pixels the decoder holds: those of the picture, or of a TIFF's tile, which may be larger."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(TILEWIDTH, 0) * tags.get(TILELENGTH, 0)
    return max(image.width * image.height, tile)


def _to_array(image: Image.Image, size: int, channels: int | None) -> np.ndarray:
    if image.mode == "F":
        raise UnreadableSample("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode == "I":
        values = np.array(image.getextrema())
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableSample("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits")
    grey = image.mode in _GREY_MODES if channels is None else channels == 1
    square = _centre(image, "L" if grey else "RGB")
    side = len(square)
    if side > size and not grey:
        return _shrunk(square, size)
    kernel = Image.Resampling.BICUBIC if side < size else Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(square).resize((size, size), kernel))
    return resized[:, :, None] if grey else resized


def _centre(image: Image.Image, mode: str) -> np.ndarray:
    """The centred square of a picture as uint8 (side, side) in mode L, (side, side, 3) in mode RGB.

    It is converted a strip at a time, as the steps between the modes take several times the memory of the picture.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = np.empty((side, side) if mode == "L" else (side, side, 3), dtype=np.uint8)
    rows = max(1, _PIXELS_A_STRIP // side)
    for start in range(0, side, rows):
        end = min(start + rows, side)
        square[start:end] = np.asarray(_converted(image.crop((left, top + start, left + side, top + end)), mode))
    return square


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _sixteen_to_eight_bits(image)
    elif image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return image if image.mode == mode else image.convert(mode)


def _shrunk(square: np.ndarray, size: int) -> np.ndarray:
    """An RGB picture, uint8 (side, side, 3), at a smaller size, (size, size, 3).

    PyTorch has Pillow's filter, give or take 1 of 255, and takes a quarter of the time. It is imported where there is
    something to shrink.
    """
    import torch
    from torch.nn.functional import interpolate

    batch = torch.from_numpy(square).unsqueeze(0).permute(0, 3, 1, 2)
    shrunk = interpolate(batch, (size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(shrunk[0].permute(1, 2, 0).numpy())


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
