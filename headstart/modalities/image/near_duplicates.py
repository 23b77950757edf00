"""Near duplicates: pictures that look the same, as copies do that were saved again in another size, format or quality.

Two pictures are near duplicates where their thumbnails of 32 × 32 grey pixels differ by at most 5 of 255 (root mean
square) and correlate by at least 0.99. Candidates are found by a mean hash of 64 bits (which pixels of a thumbnail of
8 × 8 are brighter than its mean) that differs in at most 3 bits. Provenance: docs/studies/near_duplicates.md.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from headstart.modalities import Shape
from headstart.modalities.alike import Alike, Mark

MIN_SIDE = 28
"""Pixels: stored smaller, pictures of different things look the same."""

# Pictures stored at this side or more have thumbnails of one size.
_COMPARABLE_SIDE = 32

BITS = 3
_BANDS = BITS + 1  # of two hashes that differ in 3 bits, one of 4 bands is the same
_MAX_DISTANCE = 5.0
_REACH = _MAX_DISTANCE + 1  # by which coarse thumbnails of near duplicates may differ, rounded as they are
_MIN_CORRELATION = 0.99
_THUMBNAIL = 32
_COARSE = 8
# A picture of one colour looks like any other of that colour, a cloudless sky like another.
_MIN_DEVIATION = 4.0
# Neighbouring bits go to different bands: a border or a sky would leave a band of its own the same in all pictures.
_ORDER = np.argsort(np.arange(_COARSE**2) % _BANDS, kind="stable")
_PAIRS_AT_ONCE = 2**20
_CHUNK = 2**24  # comparisons of hashes at a time
_KEPT = 4096  # thumbnails
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue, by ITU-R BT.601
_POPCOUNT = np.array([number.bit_count() for number in range(2**16)], dtype=np.uint8)


def looks_of(pictures: Sequence[np.ndarray]) -> list[Mark | None]:
    """The look of each picture, uint8 (size, size, 1 or 3), all of one size; None where it is too small or has hardly
    any contrast."""
    if not pictures or pictures[0].shape[0] < MIN_SIDE:
        return [None] * len(pictures)
    exact = np.stack([_shrunk(picture, _COARSE, _COARSE) for picture in pictures]).reshape(len(pictures), -1)
    coarse = np.rint(exact).astype(np.uint8)
    bits = (exact > exact.mean(axis=1, keepdims=True))[:, _ORDER]
    hashes = np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8").ravel().tolist()
    plain = exact.std(axis=1) < _MIN_DEVIATION
    return [
        None if without else Mark(of_picture, thumbnail.tobytes())
        for of_picture, thumbnail, without in zip(hashes, coarse, plain.tolist(), strict=True)
    ]


def near_duplicates(looks: Sequence[Mark], pixels_of: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
    """Pairs (i, j) of pictures that look the same, sorted; `pixels_of` gives the pixels of one.

    Of pictures that are connected through others only so many pairs are found as connect them.
    """
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    coarse = np.frombuffer(b"".join(look.coarse for look in looks), np.uint8).reshape(len(looks), -1)
    clusters = _Clusters(len(looks))
    found = []
    thumbnail = lru_cache(_KEPT)(lambda number: _thumbnail(pixels_of(number)))
    for rows, columns in _candidates(hashes, coarse):
        for i, j in _close(coarse, clusters.of, rows, columns):
            if clusters.of[i] != clusters.of[j] and _is_same(thumbnail(i), thumbnail(j)):
                clusters.join(i, j)
                found.append((min(i, j), max(i, j)))
    return sorted(found)


class _Clusters:
    """Sets of numbers below `count` that were joined; `of` has the number of each one's set."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)
        self._members: dict[int, list[int]] = {}

    def join(self, one: int, other: int) -> None:
        names = [int(self.of[one]), int(self.of[other])]
        # The smaller set takes the name of the larger, so that nobody is renamed more than log2(count) times.
        small, large = sorted(names, key=lambda name: len(self._members.get(name, (name,))))
        moved = self._members.pop(small, [small])
        self.of[moved] = large
        self._members.setdefault(large, [large]).extend(moved)


def _close(coarse: np.ndarray, cluster: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    """The pairs whose coarse thumbnails are close and that are not connected yet. Averaging brings thumbnails no
    further apart, so that only rounding can lose one."""
    apart = cluster[rows] != cluster[columns]
    rows, columns = rows[apart], columns[apart]
    difference = coarse[rows].astype(np.float32) - coarse[columns]
    near = (difference**2).mean(axis=1) <= _REACH**2
    return list(zip(rows[near].tolist(), columns[near].tolist(), strict=True))


def _candidates(hashes: np.ndarray, coarse: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (i, j) of pictures whose hashes are close, in arrays of bounded length; a pair may come more than once.

    Close hashes have the same bits in one of the bands. Where two pictures differ by d (root mean square), their means
    differ by d at most, and by 2 d at most what the upper half is brighter than the lower, and the mean of the middle
    quarter. So those of the same bits are sorted by their means, and each is compared with the next ones only.
    """
    square = coarse.reshape(-1, _COARSE, _COARSE)
    half, quarter = _COARSE // 2, _COARSE // 4

    def mean(part: np.ndarray) -> np.ndarray:
        return part.mean(axis=(1, 2), dtype=np.float32)

    means, tilts = mean(square), mean(square[:, :half]) - mean(square[:, half:])
    middles = mean(square[:, quarter:-quarter, quarter:-quarter])
    width = 64 // _BANDS
    for band in range(_BANDS):
        bits = (hashes >> np.uint64(band * width)) & np.uint64(2**width - 1)
        order = np.lexsort((means, bits))
        key, brightness, tilt, middle, word = (values[order] for values in (bits, means, tilts, middles, hashes))
        rows: list[np.ndarray] = []
        columns: list[np.ndarray] = []
        held, first = 0, np.arange(len(order))
        for distance in range(1, len(order)):
            first = first[first + distance < len(order)]
            second = first + distance
            within = (key[first] == key[second]) & (brightness[second] - brightness[first] <= _REACH)
            first, second = first[within], second[within]
            if not len(first):
                break
            near = (
                (np.abs(tilt[first] - tilt[second]) <= 2 * _REACH)
                & (np.abs(middle[first] - middle[second]) <= 2 * _REACH)
                & (bit_count(word[first] ^ word[second]) <= BITS)
            )
            rows.append(order[first[near]])
            columns.append(order[second[near]])
            held += len(rows[-1])
            if held > _PAIRS_AT_ONCE:
                yield np.concatenate(rows), np.concatenate(columns)
                rows, columns, held = [], [], 0
        if held:
            yield np.concatenate(rows), np.concatenate(columns)


def bit_count(words: np.ndarray) -> np.ndarray:
    """The number of bits that are set in each of some uint64."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return _POPCOUNT[words.view(np.uint16).reshape(-1, 4)].sum(axis=1)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.sqrt(np.mean((one - other) ** 2)) <= _MAX_DISTANCE) and _correlation(one, other) >= _MIN_CORRELATION


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    side = min(_THUMBNAIL, pixels.shape[0])
    return _shrunk(pixels, side, side)


def _shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture in grey, each pixel the mean of the area that it covers, float32 (height, width)."""
    # Rows first, which leaves little of a large picture. As sums: in each thread that prepares pictures, a product of
    # matrices of this size would start threads of its own.
    times = height // math.gcd(height, pixels.shape[0])
    rows = pixels if times == 1 else pixels.repeat(times, axis=0)
    sums = rows.reshape(height, -1, *pixels.shape[1:]).sum(axis=1, dtype=np.uint32)
    channels = sums.astype(np.float32) * np.float32(height / len(rows))
    grey = channels[:, :, 0] if pixels.shape[2] == 1 else channels @ _LUMINANCE
    return grey @ _means(pixels.shape[1], width).T


@lru_cache
def _means(length: int, parts: int) -> np.ndarray:
    """The matrix (parts, length) that takes the mean of each of so many equal parts of an axis."""
    edges = np.linspace(0, length, parts + 1)
    pixels = np.arange(length)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (covered.clip(min=0) * parts / length).astype(np.float32)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def _near_any(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The positions of the hashes that differ from any of the others in as few bits as those of near duplicates."""
    found = np.zeros(len(hashes), dtype=bool)
    rows = max(1, _CHUNK // max(len(others), 1))
    for start in range(0, len(hashes), rows):
        different = bit_count(hashes[start : start + rows, None] ^ others)
        found[start : start + rows] = (different <= BITS).any(axis=1)
    return np.flatnonzero(found)


class _LooksAlike(Alike):
    """Pictures that look the same."""

    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        return looks_of(samples)

    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        return near_duplicates(marks, sample)

    def comparable(self, one: Shape, other: Shape) -> bool:
        sides = {one[0] or 0, other[0] or 0}
        return len(sides) == 1 or min(sides) >= _COMPARABLE_SIDE

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        hashes, theirs = (np.array([mark.hash for mark in each], dtype=np.uint64) for each in (marks, others))
        return _near_any(hashes, theirs).tolist()


LOOKS_ALIKE = _LooksAlike()
