import io
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.errors import InputError
from headstart.modalities import MODALITIES, UnreadableSample, modality
from headstart.modalities.image import MODALITY, decoding
from headstart.modalities.image.augmentation import AUGMENTATIONS
from headstart.modalities.image.augmentations.crop import shifted_by_index, shifted_by_slices
from headstart.modalities.room import NoRoom, Room

augment, decode, pixels = MODALITY.augment, MODALITY.decode, MODALITY.pixels
draws_per_sample = MODALITY.draws_per_sample


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_, **options)
    return buffer.getvalue()


GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOURS = np.stack([GRADIENT, GRADIENT.T, 255 - GRADIENT], axis=2)


def test_pixels_of_a_picture_of_the_right_size_stay_as_they_are() -> None:
    assert np.array_equal(decode(encoded(Image.fromarray(GRADIENT)), 8)[:, :, 0], GRADIENT)
    assert np.array_equal(decode(encoded(Image.fromarray(COLOURS)), 8), COLOURS)


@pytest.mark.parametrize(
    ("picture", "channels"),
    [
        (Image.fromarray(GRADIENT), 1),
        (Image.fromarray(GRADIENT > 99), 1),
        (Image.fromarray(GRADIENT.astype(np.uint16) * 257), 1),
        (Image.fromarray(GRADIENT).convert("LA"), 1),
        (Image.fromarray(COLOURS), 3),
        (Image.fromarray(COLOURS).convert("RGBA"), 3),
        (Image.fromarray(COLOURS).convert("P"), 3),
    ],
    ids=["grey", "two-level", "16-bit", "grey-alpha", "rgb", "rgb-alpha", "palette"],
)
def test_a_picture_keeps_its_own_channels_or_takes_those_asked_for(picture: Image.Image, channels: int) -> None:
    assert decode(encoded(picture), 8).shape == (8, 8, channels)
    assert decode(encoded(picture), 8, 1).shape == (8, 8, 1)
    assert decode(encoded(picture), 8, 3).shape == (8, 8, 3)


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    pixels = decode(encoded(red, "JPEG", quality=95), 8)
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 8


def test_sixteen_bit_values_are_scaled_not_clipped() -> None:
    values = np.array([[0, 200], [32896, 65535]], dtype=np.uint16)
    for raw in (encoded(Image.fromarray(values)), encoded(Image.fromarray(values), "TIFF")):
        assert decode(raw, 2)[:, :, 0].tolist() == [[0, 1], [128, 255]]


def test_transparent_parts_become_white() -> None:
    clear_black = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    half_black = Image.new("LA", (8, 8), (0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0])
    assert decode(encoded(clear_black), 8).min() == 255
    assert set(decode(encoded(half_black), 8).ravel()) == {127}
    assert decode(encoded(palette, transparency=0), 8).min() == 255


def test_a_wide_picture_gives_its_centre_square() -> None:
    stripes = np.zeros((8, 24), dtype=np.uint8)
    stripes[:, 8:16] = 200
    assert (decode(encoded(Image.fromarray(stripes)), 8) == 200).all()
    assert (decode(encoded(Image.fromarray(stripes.T.copy())), 8) == 200).all()


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = decode(encoded(Image.fromarray(checkers.astype(np.uint8))), 8)
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_a_large_jpeg_shrinks_to_the_same_picture_as_a_png_of_it() -> None:
    ramp = np.add.outer(np.arange(400), np.arange(400)).astype(float) / 799 * 255
    image = Image.fromarray(ramp.astype(np.uint8))
    difference = decode(encoded(image, "JPEG", quality=95), 16).astype(int) - decode(encoded(image), 16)
    assert np.abs(difference).max() <= 3


def test_exif_orientation_turns_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned by 90° clockwise
    raw = encoded(Image.fromarray(GRADIENT), "PNG", exif=exif)
    assert np.array_equal(decode(raw, 8)[:, :, 0], np.rot90(GRADIENT, -1))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("L", (8, 8), value) for value in (40, 200)]
    raw = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert set(decode(raw, 8).ravel()) == {40}


def peak_of_memory() -> int:
    """The most memory that this process had since its peak was last forgotten, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> int:
    """Makes the present use of memory the peak; returns it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_of_memory()


class Ledger(Room):
    """Room for everything, which notes what was taken."""

    def __init__(self) -> None:
        super().__init__(2**40)
        self.taken: list[int] = []

    def take(self, need: int, patience: float | None = None) -> AbstractContextManager[None]:
        self.taken.append(need)
        return super().take(need, patience)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
LARGE = Image.new("RGB", (2400, 2400), "teal")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a peak of memory")
@pytest.mark.parametrize(
    "raw",
    [
        lambda: encoded(Image.fromarray(np.full((2400, 2400), 40_000, dtype=np.uint16))),
        lambda: encoded(LARGE.convert("RGBA")),
        lambda: encoded(LARGE.convert("P")),
        lambda: encoded(LARGE.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        lambda: encoded(LARGE, "WEBP", lossless=True, method=0),
        lambda: encoded(LARGE, "JPEG", progressive=True, subsampling=0),
        lambda: encoded(LARGE, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    ],
    ids=["16-bit", "alpha", "palette", "cmyk", "webp", "progressive", "turned"],
)
def test_decoding_takes_no_more_memory_than_it_asks_for(raw: Callable[[], bytes]) -> None:
    content, ledger = raw(), Ledger()
    before = forget_peak()
    decode(content, 32, 3, room=ledger)
    (asked,) = ledger.taken
    # A strip is converted at a time: up to 2**20 pixels in a few copies.
    assert peak_of_memory() - before <= asked + 16 * 2**20
    assert asked <= 20 * 2400**2


def test_a_picture_is_decoded_where_there_is_room_and_not_elsewhere() -> None:
    raw, room = encoded(Image.fromarray(GRADIENT)), Room(1000)
    assert decode(raw, 8, room=room, patience=0).shape == (8, 8, 1)
    with room.take(1000), pytest.raises(NoRoom):
        decode(raw, 8, room=room, patience=0)
    assert decode(raw, 8, room=room, patience=0).shape == (8, 8, 1)


def test_a_picture_that_is_converted_in_many_strips_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (70, 90)).astype(np.uint16)
    files = [
        encoded(NOISE), encoded(NOISE.convert("RGBA")), encoded(NOISE.convert("P"), transparency=3),
        encoded(NOISE.convert("CMYK"), "TIFF"), encoded(Image.fromarray(values)),
    ]  # fmt: skip
    whole = [decode(raw, 16) for raw in files]
    monkeypatch.setattr(decoding, "_PIXELS_A_STRIP", 200)
    assert all(np.array_equal(decode(raw, 16), expected) for raw, expected in zip(files, whole, strict=True))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (lambda: png_that_claims(3000), 3000**2),
        # Decoded at an eighth of its size, but read whole; one with several scans is put together whole.
        (lambda: encoded(LARGE, "JPEG"), 2400**2 // 8),
        (lambda: encoded(LARGE, "JPEG", progressive=True), 2400**2),
        (lambda: encoded(Image.new("L", (1, 1))), 200**2),
        (lambda: tiff_with_a_tile_of(3000), 3000**2),
    ],
    ids=["png", "jpeg", "progressive jpeg", "one pixel", "tile"],
)
def test_the_header_tells_how_many_pixels_decoding_works_on(raw: Callable[[], bytes], expected: int) -> None:
    assert pixels(raw(), 200) == expected


def test_no_file_costs_nothing() -> None:
    assert pixels(encoded(Image.new("L", (1, 1))), 1) > 1000
    with pytest.raises(UnreadableSample, match="not an image"):
        pixels(b"a text", 8)


def tiff_with_a_tile_of(side: int) -> bytes:
    """A small file of a picture of 8 by 8 pixels in a tile of `side` by `side`, all of which is unpacked."""
    tile = zlib.compress(bytes(side))
    tags = [
        (256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (284, 3, 1),
        (322, 4, side), (323, 4, side), (324, 4, 8 + 2 + 12 * 11 + 4), (325, 4, len(tile)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tile


def png_that_claims(side: int) -> bytes:
    """A tiny file whose header announces a picture of `side` by `side` pixels."""
    raw = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b""))):
        raw += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return raw


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"a text file named .png\n", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        (encoded(NOISE)[:-900], "damaged"),
        (encoded(NOISE, "JPEG")[:-300], "damaged"),
        (png_that_claims(9_000), "megapixels"),
        (png_that_claims(30_000), "megapixels"),
        (tiff_with_a_tile_of(9_000), "megapixels"),
        (encoded(Image.fromarray(GRADIENT.astype(np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(GRADIENT.astype(np.int32) * 10_000), "TIFF"), "32-bit"),
    ],
    ids=["empty", "text", "postscript", "cut png", "cut jpeg", "large", "bomb", "tile", "float", "32-bit"],
)
def test_what_is_no_whole_picture_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableSample, match=reason):
        decode(raw, 8)


@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")
def test_any_truncation_of_a_file_is_refused_or_gives_the_whole_picture() -> None:
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        raw = encoded(Image.fromarray(COLOURS).resize((24, 24)), format_)
        whole = decode(raw, 8)
        for length in range(0, len(raw), 7):
            try:
                pixels = decode(raw[:length], 8)
            except UnreadableSample:
                continue
            assert np.array_equal(pixels, whole), (format_, length)


def test_an_extremely_long_picture_does_not_blow_up() -> None:
    assert decode(encoded(Image.new("L", (60_000, 1), 7)), 224).shape == (224, 224, 1)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.arange(4 * 16 * 16 * 3).remainder(251).to(torch.uint8).reshape(4, 16, 16, 3)


METHODS = [*AUGMENTATIONS, "views"]
MOVING = [method for method in METHODS if method != "none"]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, draws_per_sample, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", MOVING)
def test_augmentation_keeps_shape_and_type_and_follows_the_draws_of_each_sample(
    batch: torch.Tensor, method: str
) -> None:
    first = augment(batch, draws(4, seed=1), method=method, flip=True)
    other = augment(batch, draws(4, seed=2), method=method, flip=True)
    assert first.shape == batch.shape
    assert first.dtype == torch.uint8
    assert not torch.equal(first, other)
    alone = [augment(batch[i : i + 1], draws(4, seed=1)[i : i + 1], method=method, flip=True) for i in range(4)]
    assert torch.equal(torch.cat(alone), first)


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_augmentation_moves_nothing(batch: torch.Tensor, method: str) -> None:
    moved = augment(batch, draws(4), method=method, strength=0.0)
    assert (moved.int() - batch.int()).abs().max() <= 1


def test_crop_shifts_by_an_eighth_at_most_and_fills_with_the_mirror_image(batch: torch.Tensor) -> None:
    padded = torch.nn.functional.pad(batch.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    crops = padded.to(torch.uint8).permute(0, 2, 3, 1).unfold(1, 16, 1).unfold(2, 16, 1)
    offsets = set()
    for seed in range(40):
        for number, picture in enumerate(augment(batch, draws(4, seed), method="crop")):
            hits = [
                (y, x) for y in range(5) for x in range(5) if torch.equal(crops[number, y, x].permute(1, 2, 0), picture)
            ]
            assert hits
            offsets.add(hits[0])
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def cropped(picture: np.ndarray, drawn: np.ndarray, strength: float) -> np.ndarray:
    """One picture (H, W, C), shifted and mirrored as `augment` says, in so many words."""
    reach = [round(strength * (side // 8)) for side in picture.shape[:2]]
    top, left = (int(draw * (2 * most + 1)) for draw, most in zip(drawn[1:3], reach, strict=True))
    padded = np.pad(picture, ((reach[0], reach[0]), (reach[1], reach[1]), (0, 0)), mode="reflect")
    crop = padded[top : top + picture.shape[0], left : left + picture.shape[1]]
    return crop[:, ::-1] if drawn[0] < 0.5 else crop


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16, 1), (33, 20, 3), (8, 9, 1), (7, 1, 3)], ids=str)
def test_crop_is_a_part_of_the_picture_padded_by_reflection_and_half_of_them_mirrored(
    shape: tuple[int, int, int], strength: float
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
    drawn = draws(60)
    moved = augment(torch.from_numpy(pictures), drawn, method="crop", strength=strength, flip=True).numpy()
    for picture, found, own in zip(pictures, moved, drawn.numpy(), strict=True):
        assert np.array_equal(found, cropped(picture, own, strength))


@pytest.mark.parametrize("method", METHODS)
def test_augmentation_leaves_the_stored_pictures_as_they_are(batch: torch.Tensor, method: str) -> None:
    before = batch.clone()
    augment(batch, draws(4), method=method, flip=True)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("shape", [(16, 16, 3), (33, 20, 1)], ids=str)
def test_a_gpu_shifts_pictures_as_a_cpu_does(shape: tuple[int, int, int]) -> None:
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, *shape), dtype=np.uint8))
    down, right = torch.randint(-4, 5, (2, 50), generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifted_by_index(pictures, down, right), shifted_by_slices(pictures, down, right))


def test_affine_moves_the_centre_of_a_blob_by_a_tenth_of_the_side_and_its_area_by_the_square_of_the_scale() -> None:
    axis = torch.arange(64) - 31.5
    disc = ((axis[:, None] ** 2 + axis[None, :] ** 2) < 12**2).to(torch.uint8) * 255
    blobs = augment(disc.expand(500, 64, 64)[..., None], draws(500), method="affine").float()
    area = blobs.sum((1, 2, 3)) / disc.sum()
    assert 1 / 1.25**2 - 0.05 < area.min() < 0.75
    assert 1.5 < area.max() < 1 / 0.75**2 + 0.05
    centre = (blobs[..., 0] * axis[:, None]).sum((1, 2)) / blobs.sum((1, 2, 3))
    assert 4 < centre.abs().max() < 64 / 10 / 0.75 + 1


def test_only_flip_mirrors_and_it_mirrors_about_half() -> None:
    left_bright = torch.zeros(400, 8, 8, 1, dtype=torch.uint8)
    left_bright[:, :, :3] = 255
    assert (augment(left_bright, draws(400), method="crop")[:, :, 0] == 255).all()
    mirrored = augment(left_bright, draws(400), method="crop", flip=True)[:, 0, 7, 0] == 255
    assert 0.4 < mirrored.float().mean() < 0.6


def test_an_unknown_modality_is_refused_with_the_known_ones() -> None:
    assert list(MODALITIES) == ["image"]
    with pytest.raises(InputError, match=r"'smell'.*image"):
        modality("smell")
