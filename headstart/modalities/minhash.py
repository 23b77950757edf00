"""MinHash: pairs of samples whose sets of shingles have much in common, found in linear time.

Candidates have values of their signatures in common (Broder 1997, "On the resemblance and containment of documents"):
64 values, in bands of a few, of which all in one band are the same. Candidates are then compared by their whole sets.
"""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import ClassVar

import numpy as np

from headstart.modalities import Shape
from headstart.modalities.alike import Alike, Mark

_VALUES = 64
_COMPARED = 16  # with how many others of a band a sample's shingles are compared at most
_JOINED = 4096  # signatures that become rows of an array at a time
_KEPT = 2**27  # bytes of shingles that are in memory
_HASHED = 4096  # shingles of which all values of a signature are computed at a time
# Random odd factors and summands of 64 bits: multiply-shift hashing (Dietzfelbinger et al. 1997).
_FACTORS, _SUMMANDS = np.random.default_rng(0).integers(1, 2**63, (2, _VALUES), dtype=np.uint64) * 2 + 1


class Shingled(Alike):
    """Samples are alike where the sets of their shingles have at least `alike` of their union in common.

    A signature has bands of `rows` values; a sample of fewer shingles than `least` is like any other.
    """

    verb = "read"
    alike: ClassVar[float]
    rows: ClassVar[int]
    least: ClassVar[int]

    @abstractmethod
    def shingles(self, values: np.ndarray) -> np.ndarray:
        """The hashes, uint64 (n,), different and rising, of the shingles of a stored sample."""

    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        return [self._mark(self.shingles(sample)) for sample in samples]

    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        from scipy.cluster.hierarchy import DisjointSet

        sets = _Sets(lambda number: self.shingles(sample(number)), self.alike)
        buckets = self._buckets(marks)
        connected = DisjointSet({member for members in buckets for member in members})
        found = []
        for members in buckets:
            # Each is compared with the first ones of its bucket, so that a thousand copies of a form letter are too.
            for place, j in enumerate(members):
                others = [i for i in members[: min(place, _COMPARED)] if not connected.connected(i, j)]
                i = sets.first_alike(j, others)
                if i is not None:
                    connected.merge(i, j)
                    found.append((i, j))
        return sorted(found)

    def comparable(self, one: Shape, other: Shape) -> bool:
        return True

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        bands: set[tuple[int, bytes]] = {band for mark in others for band in self._bands(mark)}
        return [number for number, mark in enumerate(marks) if not bands.isdisjoint(self._bands(mark))]

    def _mark(self, shingles: np.ndarray) -> Mark | None:
        if len(shingles) < self.least:
            return None
        least = np.full(_VALUES, np.iinfo(np.uint64).max)
        for start in range(0, len(shingles), _HASHED):
            hashed = shingles[start : start + _HASHED, None] * _FACTORS + _SUMMANDS
            least = np.minimum(least, hashed.min(axis=0))
        # The upper halves, as the lower bits of a product depend on the lower bits alone.
        signature = (least >> np.uint64(32)).astype(">u4").tobytes()
        return Mark(int.from_bytes(signature[:8], "big"), signature)

    def _bands(self, mark: Mark) -> list[tuple[int, bytes]]:
        width = 4 * self.rows
        return [(band, mark.coarse[band * width : (band + 1) * width]) for band in range(_VALUES // self.rows)]

    def _buckets(self, marks: Sequence[Mark]) -> list[list[int]]:
        """The positions, rising, of two or more marks that have a band in common; sorted by the first, then by band."""
        signatures, each = np.empty((len(marks), 4 * _VALUES), dtype=np.uint8), iter(marks)
        for start in range(0, len(marks), _JOINED):
            joined = b"".join(mark.coarse for mark in islice(each, _JOINED))
            signatures[start : start + _JOINED] = np.frombuffer(joined, np.uint8).reshape(-1, 4 * _VALUES)
        found = []
        width = 4 * self.rows
        for band in range(_VALUES // self.rows):
            # Sorted: a dictionary of the bands of millions would take several kilobytes of each.
            keys = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width]).view(f"S{width}").ravel()
            order = np.argsort(keys, kind="stable")
            same = np.concatenate([[False], keys[order[1:]] == keys[order[:-1]], [False]])
            starts, stops = np.flatnonzero(~same[:-1] & same[1:]), np.flatnonzero(same[:-1] & ~same[1:]) + 1
            found += [
                (members[0], band, members)
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
                for members in [order[start:stop].tolist()]
            ]
        return [members for *_, members in sorted(found)]


class _Sets:
    """The sets of shingles of samples by their numbers, and which of them have much in common.

    Most candidates have next to nothing in common, which a table tells before two sets are compared: it has the places
    of one set's shingles, and no more shingles of another are in both than have theirs there.
    """

    def __init__(self, shingles: Callable[[int], np.ndarray], alike: float) -> None:
        self.shingles, self.alike = shingles, alike
        self._table = np.zeros(2**16, dtype=bool)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def first_alike(self, one: int, others: Sequence[int]) -> int | None:
        """The first of `others` that is alike to `one`; None if none is."""
        if not others:
            return None
        ours, theirs = self._set(one), [self._set(each) for each in others]
        sizes, places = np.array([len(each) for each in theirs]), _places(ours)
        self._table[places] = True
        # No set is empty: those of too few shingles have no marks.
        there = np.add.reduceat(self._table[_places(np.concatenate(theirs))], np.cumsum(sizes) - sizes, dtype=np.int64)
        self._table[places] = False
        likely = np.flatnonzero(there / (len(ours) + sizes - there) >= self.alike).tolist()
        return next((others[each] for each in likely if resemblance(ours, theirs[each]) >= self.alike), None)

    def _set(self, number: int) -> np.ndarray:
        """The shingles of a sample; those that were asked for last stay in memory."""
        if number in self._kept:
            self._kept.move_to_end(number)
        else:
            self._kept[number] = self.shingles(number)
            self._bytes += self._kept[number].nbytes
        while self._bytes > _KEPT and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return self._kept[number]


def _places(shingles: np.ndarray) -> np.ndarray:
    return (shingles * _FACTORS[0] >> np.uint64(48)).astype(np.intp)


def resemblance(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the union of two sets of shingles that both have (Jaccard)."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)
