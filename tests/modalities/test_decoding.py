import io
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.errors import InputError
from headstart.modalities import MODALITIES, UnreadableSample, modality
from headstart.modalities.image import MODALITY, decoding
from headstart.modalities.image.section import ImageInput
from headstart.modalities.room import NoRoom, Room


def decode(raw, size, channels=None, **memory):
    return decoding.decode(raw, size, channels, **memory)[0]


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
    assert decoding.pixels(raw(), 200) == expected


def test_no_file_costs_nothing() -> None:
    assert decoding.pixels(encoded(Image.new("L", (1, 1))), 1) > 1000
    with pytest.raises(UnreadableSample, match="not an image"):
        decoding.pixels(b"a text", 8)


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


def test_an_unknown_modality_is_refused_with_the_known_ones() -> None:
    assert list(MODALITIES) == ["audio", "dna", "image", "protein", "text", "waveform"]
    with pytest.raises(InputError, match=r"'smell'.*audio, dna, image, protein, text, waveform"):
        modality("smell")


# Pictures that are no squares

WIDE = Image.fromarray(np.repeat(np.arange(0, 240, 15, dtype=np.uint8)[None], 8, axis=0))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_centred_square_is_kept_or_the_whole_picture_on_black_or_in_another_shape(mode: str) -> None:
    raw = encoded(WIDE.convert(mode))

    crop, pad, stretch = (decode(raw, 8, fit=fit)[:, :, 0] for fit in ("crop", "pad", "stretch"))

    assert crop[0].tolist() == list(range(60, 180, 15))
    assert (pad[[0, 1, 6, 7]] == 0).all()
    assert np.allclose(pad[3], np.arange(7.5, 240, 30), atol=8)
    assert np.allclose(stretch[0], np.arange(7.5, 240, 30), atol=8)


def test_a_model_keeps_how_its_pictures_were_brought_into_the_square() -> None:
    samples = np.zeros((2, 8, 8, 1), dtype=np.uint8)
    for fit in ("crop", "pad", "stretch"):
        content = MODALITY.fit(samples, ImageInput(size=8, channels=1, fit=fit)).to_dict()
        assert MODALITY.preprocessing(content).given.fit == fit
        assert content.get("fit", "crop") == fit
