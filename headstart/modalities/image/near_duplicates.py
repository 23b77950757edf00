"""Near duplicates: pictures that look the same, as copies do that were saved again in another size, format or quality.

Two pictures are near duplicates where their thumbnails of 32 × 32 grey pixels differ by at most 5 of 255 (root mean
square) and correlate by at least 0.99. Candidates are found by a mean hash of 64 bits (which pixels of a thumbnail of
8 × 8 are brighter than its mean) that differs in at most 3 bits. Provenance: docs/studies/near_duplicates.md.
"""

import logging
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
_PAIRS_AT_ONCE = 2**12  # compared by their thumbnails
_ROWS_AT_ONCE = 2**9  # compared by their hashes with so many others as are in the window
_WINDOW = 128
_COMPARED = 32  # with how many others at most, in each band, a picture's thumbnail is compared
_CHUNK = 2**24  # comparisons of hashes at a time
_KEPT = 4096  # thumbnails
log = logging.getLogger(__name__)

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue, by ITU-R BT.601


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
    thumbnail = lru_cache(_KEPT)(lambda number: _thumbnail(pixels_of(number)).ravel())
    crowded = np.zeros(len(looks), dtype=bool)
    for candidates, beyond in _candidates(hashes, coarse):
        near, further = _nearest(coarse, clusters.of, candidates)
        for i, j in _same(*near, thumbnail):
            if clusters.of[i] != clusters.of[j]:
                clusters.join(i, j)
                found.append((min(i, j), max(i, j)))
        for rows, columns in (beyond, further):
            crowded[rows[clusters.of[rows] != clusters.of[columns]]] = True
    if crowded.any():
        log.warning(
            "%d of %d pictures look much like more than %d others; each was compared with its nearest only, so that a "
            "copy that was changed more may be missed.",
            crowded.sum(), len(looks), _COMPARED,
        )  # fmt: skip
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


_Pairs = tuple[np.ndarray, np.ndarray]
"""Of each pair the number of the one picture and that of the other."""


def _nearest(coarse: np.ndarray, cluster: np.ndarray, pairs: _Pairs) -> tuple[_Pairs, _Pairs]:
    """The pairs whose coarse thumbnails are close and that are not connected yet: of each first picture the `_COMPARED`
    closest, and the further ones. Averaging brings thumbnails no further apart, so that only rounding can lose one."""
    rows, columns = pairs
    apart = cluster[rows] != cluster[columns]
    rows, columns = rows[apart], columns[apart]
    difference = coarse[rows].astype(np.float32) - coarse[columns]
    distance = np.einsum("pk,pk->p", difference, difference) / coarse.shape[1]
    near = distance <= _REACH**2
    rows, columns, distance = rows[near], columns[near], distance[near]
    order = np.lexsort((distance, rows))
    rows, columns = rows[order], columns[order]
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    kept = np.arange(len(rows)) - np.repeat(first, counts) < _COMPARED
    return (rows[kept], columns[kept]), (rows[~kept], columns[~kept])


def _same(rows: np.ndarray, columns: np.ndarray, thumbnail: Callable[[int], np.ndarray]) -> Iterator[tuple[int, int]]:
    """The pairs that are near duplicates by their thumbnails."""
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        i, j = rows[start : start + _PAIRS_AT_ONCE], columns[start : start + _PAIRS_AT_ONCE]
        numbers, places = np.unique(np.concatenate([i, j]), return_inverse=True)
        grey = np.stack([thumbnail(number) for number in numbers.tolist()])
        one, other = grey[places[: len(i)]], grey[places[len(i) :]]
        is_same = np.sqrt(np.mean((one - other) ** 2, axis=1)) <= _MAX_DISTANCE
        one -= one.mean(axis=1, keepdims=True)
        other -= other.mean(axis=1, keepdims=True)
        lengths = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        is_same &= (one * other).sum(axis=1) >= _MIN_CORRELATION * lengths
        yield from zip(i[is_same].tolist(), j[is_same].tolist(), strict=True)


def _candidates(hashes: np.ndarray, coarse: np.ndarray) -> Iterator[tuple[_Pairs, _Pairs]]:
    """Pairs of pictures whose hashes are close, in arrays of bounded length; a pair may come more than once.

    Close hashes have the same bits in one of the bands. Where two pictures differ by d (root mean square), their means
    differ by d at most, and by 2 d at most what the upper half is brighter than the lower, and the mean of the middle
    quarter. So those of the same bits are sorted by one of these, by another in each band, and each is compared with
    the next ones only, `_WINDOW` at most: time grows with their number, however alike they are. Beside the pairs come
    those of pictures that have more and the last one that each was paired with.
    """
    square = coarse.reshape(-1, _COARSE, _COARSE)
    half, quarter = _COARSE // 2, _COARSE // 4

    def mean(part: np.ndarray) -> np.ndarray:
        return part.mean(axis=(1, 2), dtype=np.float32)

    means, tilts = mean(square), mean(square[:, :half]) - mean(square[:, half:])
    middles = mean(square[:, quarter:-quarter, quarter:-quarter])
    reaches = ((means, _REACH), (tilts, 2 * _REACH), (middles, 2 * _REACH))
    width = 64 // _BANDS
    for band in range(_BANDS):
        bits = (hashes >> np.uint64(band * width)) & np.uint64(2**width - 1)
        sorted_by, reach = reaches[band % len(reaches)]
        order = np.lexsort((sorted_by, bits))
        ends = _ends(bits[order], sorted_by[order], reach)
        for start in range(0, len(order), _ROWS_AT_ONCE):
            first = np.arange(start, min(start + _ROWS_AT_ONCE, len(order)))
            cut = first[ends[first] - first > _WINDOW + 1]
            second = first[:, None] + np.arange(1, _WINDOW + 1)
            within = second < ends[first][:, None]
            rows, columns = order[first.repeat(within.sum(axis=1))], order[second[within]]
            near = np.bitwise_count(hashes[rows] ^ hashes[columns]) <= BITS
            for values, most in reaches:
                near &= np.abs(values[rows] - values[columns]) <= most
            yield (rows[near], columns[near]), (order[cut], order[cut + _WINDOW])


def _ends(bits: np.ndarray, values: np.ndarray, reach: float) -> np.ndarray:
    """For each place of a list sorted by bits and then by values, the first place after it with other bits or a value
    that is larger by more than `reach`."""
    ends = np.empty(len(bits), dtype=np.int64)
    borders = np.concatenate([[0], np.flatnonzero(np.diff(bits)) + 1, [len(bits)]])
    for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        part = values[start:stop]
        ends[start:stop] = start + np.searchsorted(part, part + np.float32(reach), side="right")
    return ends


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


def _near_any(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The positions of the hashes that differ from any of the others in as few bits as those of near duplicates."""
    found = np.zeros(len(hashes), dtype=bool)
    rows = max(1, _CHUNK // max(len(others), 1))
    for start in range(0, len(hashes), rows):
        different = np.bitwise_count(hashes[start : start + rows, None] ^ others)
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
