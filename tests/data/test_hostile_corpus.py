"""Odd, broken and hostile files, alone and in archives, each with what becomes of it."""

import gzip
import io
import os
import re
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data import limits
from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import InputError

Pack = Callable[..., Dataset]
QuarantineOf = Callable[[Dataset], dict[str, str]]

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)
DEEPEST = 100  # folders
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(pixels: "np.ndarray | Image.Image", kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, content: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG written by hand: nothing in it needs to fit."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(content, 9))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def flat(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (8, 8), colour)  # type: ignore[arg-type]


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RAMP, exif=exif)


def pages(kind: str, first: int, second: int) -> bytes:
    return encoded(flat("L", first), kind, save_all=True, append_images=[flat("L", second)])


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 0xFF
    return bytes(changed)


def interlaced_bomb() -> bytes:
    """80 megabytes of pixels in 80 kilobytes."""
    return png(9000, 9000, content=bytes(9001 * 9000))


# What each file becomes: pixels, in grey or RGB, or the reason for which it is refused.
TAKEN: dict[str, tuple[bytes, object]] = {
    "grey.png": (encoded(RAMP), RAMP),
    "rgb.png": (encoded(COLOURS), COLOURS),
    "two-level.png": (encoded(Image.fromarray(RAMP > 99)), np.where(RAMP > 99, 255, 0)),
    "palette.png": (encoded(flat("RGB", (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)), (10, 200, 30)),
    "sixteen-bit.png": (encoded(RAMP.astype(np.uint16) * 257), RAMP),
    "sixteen-bit.pgm": (b"P5\n2 2\n65535\n" + struct.pack(">4H", 257, 257, 257, 257), 1),
    "sixteen-bit.tif": (encoded(RAMP.astype(np.uint16) * 257, "TIFF"), RAMP),
    "alpha.png": (encoded(flat("RGBA", (0, 0, 0, 0))), (255, 255, 255)),
    "half-alpha.png": (encoded(flat("LA", (0, 128))), 127),
    "animated.gif": (pages("GIF", 40, 200), 40),
    "pages.tiff": (pages("TIFF", 50, 210), 50),
    "animated.webp": (encoded(flat("RGB", "white"), "WEBP", save_all=True, append_images=[flat("RGB", "red")],
                              lossless=True), (255, 255, 255)),
    "turned.png": (turned(), np.rot90(RAMP, -1)),
    "cmyk.jpg": (encoded(flat("CMYK", (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
    "progressive.jpeg": (encoded(flat("L", 77), "JPEG", progressive=True), 77),
    "trailing.jpg": (encoded(flat("L", 78), "JPEG") + b"PK\x03\x04 and more", 78),
    "thumbnail.JPG": (encoded(flat("L", 79), "JPEG", comment=bytes(60_000)), 79),
    "windows.bmp": (encoded(COLOURS[::-1].copy(), "BMP"), COLOURS[::-1]),
    "plain.ppm": (b"P3\n# by hand\n1 1\n255\n1 2 3\n", (1, 2, 3)),
    "one-pixel.png": (encoded(np.full((1, 1), 91, np.uint8)), 91),
    "line.png": (encoded(Image.new("L", (60_000, 1), 92)), 92),
    "new\nline.png": (encoded(flat("L", 93)), 93),
    "<script>alert(1)</script>'\".png".replace("/", "∕"): (encoded(flat("L", 94)), 94),
    "zażółć 😀.png": (encoded(flat("L", 95)), 95),
    "-rf.png": (encoded(flat("L", 96)), 96),
}  # fmt: skip
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "cut.png": (encoded(NOISE)[:3000], "damaged"),
    "cut.jpg": (encoded(NOISE, "JPEG")[:-300], "damaged"),
    "cut.webp": (encoded(NOISE, "WEBP")[:-300], "damaged|not an image"),
    "cut.gif": (encoded(NOISE, "GIF")[:1500], "damaged"),
    "header.jpg": (encoded(NOISE, "JPEG")[:30], "damaged|not an image"),
    "flipped.png": (flipped(encoded(NOISE), 5000), "damaged"),
    "text.png": (b"not a picture", "not an image"),
    "page.jpg": (b"<!doctype html><title>404</title>", "not an image"),
    "document.jpg": (b"%PDF-1.7\n", "not an image"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
    "archive.png": (b"PK\x03\x04" + bytes(99), "not an image"),
    "icon.png": (encoded(flat("RGB", "red"), "ICO", sizes=[(8, 8)]), "not an image"),
    "zeros.png": (bytes(4096), "not an image"),
    "jpeg.png": (encoded(NOISE, "JPEG"), "its name says PNG, but its content is JPEG"),
    "png.jpg": (encoded(RAMP), "its name says JPEG, but its content is PNG"),
    "gif.webp": (encoded(RAMP, "GIF"), "its name says WEBP, but its content is GIF"),
    "large.png": (png(9000, 9000), "megapixels"),
    "larger.png": (png(2**31 - 1, 2**31 - 1), "megapixels|damaged|not an image"),
    "bomb.png": (interlaced_bomb(), "megapixels"),
    "bomb.gif": (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",", "megapixels|damaged|not an image"),
    "no-sides.png": (png(0, 0), "damaged|not an image"),
    "text-bomb.png": (
        png(8, 8, content=bytes(72), extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 * 2**20), 9))),
        "damaged|not an image",
    ),
    "wide.bmp": (b"BM" + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 2**30, -(2**30), 1, 24) + bytes(24),
                 "megapixels|damaged|not an image"),
    "float.tif": (encoded(RAMP.astype(np.float32), "TIFF"), "floating-point"),
    "integer.tiff": (encoded(RAMP.astype(np.int32) * 10_000, "TIFF"), "32-bit"),
    "loop.tif": (b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8), "damaged|not an image"),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"not a sample: \.svg"),
    "Thumbs.db": (b"db", r"not a sample: \.db"),
    "extensionless": (encoded(RAMP), "a name without extension"),
    ".hidden.png": (encoded(RAMP), "hidden"),
}  # fmt: skip


def add_special_files(folder: Path, elsewhere: Path) -> dict[str, str]:
    """Writes what is no regular file, or not to be read; the reason by name."""
    (elsewhere / "secret.png").write_bytes(encoded(np.full((8, 8), 5, np.uint8)))
    (folder / "out.png").symlink_to(elsewhere / "secret.png")
    (folder / "nothing.png").symlink_to(elsewhere / "nowhere.png")
    (folder / "self.png").symlink_to("self.png")
    (folder / "folder.png").symlink_to(elsewhere)
    os.mkfifo(folder / "pipe.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(limits.MAX_BYTES + 1)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"?")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(folder, os.O_RDONLY)
        # The path of a socket may have 108 bytes only.
        listening.bind(f"/proc/self/fd/{here}/socket.png")
        os.close(here)
    deep = folder
    for _ in range(DEEPEST + 1):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "deep.png").write_bytes(encoded(RAMP.T.copy()))
    return {
        "out.png": "out of the data folder",
        "nothing.png": "a symbolic link to nothing",
        "self.png": "a symbolic link to nothing",
        "folder.png": "a symbolic link to a folder",
        "pipe.png": "not a regular file",
        "socket.png": "not a regular file",
        "huge.png": "more than 256 MiB",
        "\\xff.png": "not valid UTF-8",
        "/".join(["d"] * DEEPEST): "folders deep",
    }


def test_each_file_ends_where_it_belongs(
    tmp_path: Path, fill: Callable[..., Path], pack: Pack, quarantine_of: QuarantineOf
) -> None:
    assert len(TAKEN) + len(REFUSED) >= 40
    root = fill(tmp_path / "pictures", {"plain": 20})
    odd = root / "odd"
    odd.mkdir()
    for name, (content, _) in (TAKEN | REFUSED).items():
        (odd / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in REFUSED.items()} | add_special_files(odd, tmp_path)

    dataset = pack(root, channels=3, max_refused=1.0, max_refused_per_class=1.0)

    seen = {}
    for name in SPLITS:
        split = dataset.split(name)
        seen |= {
            path: pixels for path, pixels in zip(split.paths, split.samples, strict=True) if path.startswith("odd")
        }
    assert seen.keys() == {f"odd/{name}" for name in TAKEN}
    for name, (_, expected) in TAKEN.items():
        wanted = np.asarray(expected)
        wanted = wanted[:, :, None] if wanted.ndim == 2 else wanted
        assert np.abs(seen[f"odd/{name}"].astype(int) - wanted).max() <= 1, name
    quarantine = quarantine_of(dataset)
    for name, reason in reasons.items():
        assert re.search(reason, quarantine[f"odd/{name}"]), name
    assert quarantine.keys() == {f"odd/{name}" for name in reasons}
    assert "<script>alert" not in (dataset.path / "report.html").read_text()


# Archives


def pictures(count: int = 12) -> dict[str, bytes]:
    noise = np.random.default_rng(1).integers(0, 256, (2, count, 8, 8), dtype=np.uint8)
    return {f"{label}/{n}.png": encoded(noise[k, n]) for k, label in enumerate(("cat", "dog")) for n in range(count)}


def write_zip(path: Path, members: "dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in [*pictures().items(), *(members.items() if isinstance(members, dict) else members)]:
            file.writestr(name, content)
    return path


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for member, content in [*((tarfile.TarInfo(name), content) for name, content in pictures().items()), *members]:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


OUTSIDE = {
    "/etc/cat.png": "absolute",
    "//server/cat.png": "absolute",
    "C:\\cat.png": "absolute",
    "../cat.png": "out of the archive",
    "cat/../../dog.png": "out of the archive",
    "cat\\..\\..\\dog.png": "out of the archive",
    "cat/..": "out of the archive",
    "cat/a\tb.png": "control characters",
    "__MACOSX/._1.png": "hidden",
    "loose.png": "not in a class folder",
    "cat/notes.txt": "not a sample",
}
"""Paths that lead out of an archive, or are no samples of it, and why none is taken."""


def test_no_member_of_a_zip_leads_out_of_it(tmp_path: Path, pack: Pack, quarantine_of: QuarantineOf) -> None:
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    device = zipfile.ZipInfo("cat/device.png")
    device.external_attr = 0o020666 << 16
    members: list[tuple[zipfile.ZipInfo | str, bytes]] = [(name, encoded(RAMP)) for name in OUTSIDE]
    members += [(link, b"/etc/passwd"), (device, b""), ("cat/flat.png", bytes(3 * 2**20)), ("cat/twin.png", b"1")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(tmp_path / "hostile.zip", [*members, ("cat/twin.png", encoded(RAMP))])
    dataset = pack(path, max_refused=1.0)
    expected = OUTSIDE | {
        "cat/link.png": "a symbolic link",
        "cat/device.png": "not a regular file",
        "cat/flat.png": "expands to more than 200 times",
        "cat/twin.png": "more than one file of this name",
        "__MACOSX": "hidden",
    }
    del expected["__MACOSX/._1.png"]
    expect(quarantine_of(dataset), expected)
    assert sum(dataset.counts.values()) == 24
    nothing_else_was_written(tmp_path, "hostile.zip")


@pytest.mark.parametrize("name", ["hostile.tar", "hostile.tar.gz"])
def test_no_member_of_a_tar_leads_out_of_it(tmp_path: Path, pack: Pack, quarantine_of: QuarantineOf, name: str) -> None:
    members = [(tarfile.TarInfo(path), encoded(RAMP)) for path in OUTSIDE]
    members += [
        special("cat/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("cat/hard.png", tarfile.LNKTYPE, "cat/0.png"),
        special("cat/device.png", tarfile.CHRTYPE),
        special("cat/block.png", tarfile.BLKTYPE),
        special("cat/pipe.png", tarfile.FIFOTYPE),
        (tarfile.TarInfo("cat/1.png"), encoded(RAMP)),
        (tarfile.TarInfo("/".join(["d"] * 900) + "/deep.png"), encoded(RAMP)),
    ]
    dataset = pack(write_tar(tmp_path / name, members), max_refused=1.0, labels="none")
    expected = OUTSIDE | {
        "cat/link.png": "a link",
        "cat/hard.png": "a link",
        "cat/device.png": "not a regular file",
        "cat/block.png": "not a regular file",
        "cat/pipe.png": "not a regular file",
        "cat/1.png": "more than one file of this name",
        "/".join(["d"] * 101): "folders deep",
        "__MACOSX": "hidden",
    }
    del expected["__MACOSX/._1.png"], expected["loose.png"]
    expect(quarantine_of(dataset), expected)
    # Without labels, loose.png is a sample too; of two files called cat/1.png, none is.
    assert sum(dataset.counts.values()) == 24
    nothing_else_was_written(tmp_path, name)


def expect(quarantine: dict[str, str], expected: dict[str, str]) -> None:
    assert quarantine.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in quarantine[path], path


def nothing_else_was_written(place: Path, archive_name: str) -> None:
    assert {path.name for path in place.iterdir()} <= {archive_name, "packed", "torch"}
    assert not Path("/etc/cat.png").exists()


def test_damaged_and_encrypted_members_of_a_zip_are_quarantined_and_the_rest_is_read(
    tmp_path: Path, pack: Pack, quarantine_of: QuarantineOf
) -> None:
    path = write_zip(tmp_path / "some.zip", {"cat/secret.png": encoded(RAMP), "dog/broken.png": encoded(NOISE)})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        broken = file.getinfo("dog/broken.png")
    content[broken.header_offset + 30 + len("dog/broken.png") + 4000] ^= 0xFF
    # Bit 0 of the flags in the central directory: encrypted.
    content[content.rindex(b"PK\x01\x02", 0, content.rindex(b"cat/secret.png")) + 8] |= 1
    path.write_bytes(content)
    dataset = pack(path)
    expect(quarantine_of(dataset), {"cat/secret.png": "encrypted", "dog/broken.png": "cannot be unpacked"})


def zip_bomb(path: Path) -> None:
    write_zip(path, {f"cat/bomb{n}.png": bytes(40 * 2**20) for n in range(2)})


def gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(80):
            file.write(bytes(2**20))


def cut(path: Path, keep: float) -> None:
    write = write_zip if path.suffix == ".zip" else write_tar
    write(path, [])  # type: ignore[operator]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def with_broken_header(path: Path) -> None:
    write_tar(path, [])
    content = path.read_bytes()
    position = content.index(b"dog/3.png")
    path.write_bytes(content[:position] + b"?" * 300 + content[position + 300 :])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("bomb.zip", zip_bomb, "expands to more than 200 times its size"),
        ("bomb.tar.gz", gzip_bomb, "expands to more than 200 times its size"),
        ("cut.zip", lambda path: cut(path, 0.5), "is damaged"),
        ("cut.tar", lambda path: cut(path, 0.3), "is damaged"),
        ("cut.tar.gz", lambda path: cut(path, 0.5), "is damaged"),
        ("header.tar", with_broken_header, "header at byte .* cannot be read"),
        ("text.zip", lambda path: path.write_text("no archive"), "is damaged"),
        ("text.tar", lambda path: path.write_text("no archive"), "is damaged"),
        ("text.tgz", lambda path: path.write_text("no archive"), "is damaged"),
        ("empty.zip", lambda path: path.touch(), "is damaged"),
        ("empty.tar", lambda path: path.touch(), "is damaged"),
    ],
)
def test_an_archive_that_is_a_bomb_or_damaged_is_refused_whole_and_leaves_nothing(
    tmp_path: Path, pack: Pack, name: str, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        pack(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir() if path.name != "torch"] == [name]


def tar_of(path: Path, count: int, form: str) -> None:
    with tarfile.open(path, form) as packed:
        for number in range(count):
            packed.addfile(tarfile.TarInfo(f"cat/{number}.png"))


@pytest.fixture
def few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred files are as many as a small archive may have."""
    monkeypatch.setattr(limits, "FEW_ENTRIES", 100)
    monkeypatch.setattr(limits, "ENTRY_BYTES", 2**12)


@pytest.mark.usefixtures("few_entries")
@pytest.mark.parametrize(("name", "form"), [("many.tar", "w"), ("many.tar.gz", "w:gz")])
def test_an_archive_of_more_files_than_its_size_warrants_is_refused_whole(
    tmp_path: Path, pack: Pack, name: str, form: str
) -> None:
    tar_of(tmp_path / name, 101, form)
    with pytest.raises(InputError, match=rf"{name} has more than 100 files, too many for its size; unpack it"):
        pack(tmp_path / name)


@pytest.mark.usefixtures("few_entries")
@pytest.mark.parametrize("name", ["many.zip", "many.npz"])
def test_a_zip_archive_of_too_many_files_is_refused_before_they_are_listed(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_zip(tmp_path / name, {f"owl/{number}.png": b"" for number in range(1000)})
    monkeypatch.delattr(zipfile.ZipFile, "infolist")
    with pytest.raises(InputError, match=rf"{name} has more than 100 files, too many for its size; unpack it"):
        pack(tmp_path / name)


def test_arrays_that_announce_more_than_they_hold_are_refused(tmp_path: Path, pack: Pack) -> None:
    root = tmp_path / "idx"
    root.mkdir()
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**15, 2**15)
    (root / "train-images-idx3-ubyte").write_bytes(header)
    (root / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 9) + bytes(9))
    with pytest.raises(InputError, match=r"announces 2147483648 × 32768 × 32768 bytes, more than it can hold"):
        pack(root)
    (root / "train-images-idx3-ubyte").write_bytes(header[:4] + struct.pack(">3I", 9, 8, 8) + bytes(500))
    with pytest.raises(InputError, match="less content than it announces"):
        pack(root)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((2, 8000, 8000), np.uint8), labels=np.arange(2))
    with pytest.raises(InputError, match="expands to more than 200 times its size, as a bomb does"):
        pack(tmp_path / "bomb.npz")


# Limits of what is refused


def broken(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"broken{number}.png").write_bytes(b"no picture")


def test_a_few_broken_files_of_a_small_folder_are_put_up_with(
    tmp_path: Path, fill: Callable[..., Path], pack: Pack, quarantine_of: QuarantineOf
) -> None:
    root = fill(tmp_path / "pictures", {"cat": 30, "dog": 30})
    broken(root / "cat", 5)
    broken(root / "dog", 5)
    assert len(quarantine_of(pack(root))) == 10


def test_more_broken_files_than_are_allowed_end_the_step_with_a_summary(
    tmp_path: Path, fill: Callable[..., Path], pack: Pack
) -> None:
    root = fill(tmp_path / "pictures", {"cat": 60, "dog": 60, "eel": 60})
    broken(root / "cat", 6)
    (root / "cat" / "broken0.png").write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"Class 'cat' in .*: 6 of 66 files are refused, more than the 5\.0% that max_refused_per_class allows: "
        r"cat/broken1\.png: its content is not an image in a known format \(5 such\); cat/broken0\.png: the file is "
        r"empty \(1 such\)",
    ):
        pack(root)
    broken(root / "dog", 6)
    with pytest.raises(InputError, match=r"12 of 192 files are refused, more than the 1\.0% that max_refused allows"):
        pack(root, max_refused_per_class=0.5)
    assert pack(root, max_refused_per_class=0.5, max_refused=0.1).manifest["quarantined"] == 12


def test_files_that_claim_no_sample_count_nowhere(
    tmp_path: Path, fill: Callable[..., Path], pack: Pack, quarantine_of: QuarantineOf
) -> None:
    root = fill(tmp_path / "pictures", {"cat": 12, "dog": 12})
    for number in range(30):
        (root / "cat" / f"{number}.txt").write_text("a caption")
        (root / "cat" / f".{number}.png").write_bytes(b"of a Mac")
    assert len(quarantine_of(pack(root))) == 60
