"""MinHash: pairs of samples whose sets of shingles have much in common, found in linear time.

Candidates have values of their signatures in common (Broder 1997, "On the resemblance and containment of documents"):
64 values, in bands of a few, of which all in one band are the same. Candidates are then compared by their whole sets.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from typing import ClassVar

import numpy as np

from headstart.modalities import Shape
from headstart.modalities.alike import Alike, Mark

_VALUES = 64
_COMPARED = 16  # with how many others of a band a sample's shingles are compared at most
_JOINED = 4096  # signatures that become rows of an array at a time
_KEPT = 4096  # samples whose shingles are in memory
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

        shingles = lru_cache(_KEPT)(lambda number: self.shingles(sample(number)))
        buckets = self._buckets(marks)
        connected = DisjointSet({member for members in buckets for member in members})
        found = []
        for members in buckets:
            # Each is compared with the first ones of its bucket, so that a thousand copies of a form letter are too.
            for place, j in enumerate(members):
                for i in members[: min(place, _COMPARED)]:
                    if not connected.connected(i, j) and resemblance(shingles(i), shingles(j)) >= self.alike:
                        connected.merge(i, j)
                        found.append((i, j))
                        break
        return sorted(found)

    def comparable(self, one: Shape, other: Shape) -> bool:
        return True

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        bands: set[tuple[int, bytes]] = {band for mark in others for band in self._bands(mark)}
        return [number for number, mark in enumerate(marks) if not bands.isdisjoint(self._bands(mark))]

    def _mark(self, shingles: np.ndarray) -> Mark | None:
        if len(shingles) < self.least:
            return None
        # The upper halves, as the lower bits of a product depend on the lower bits alone.
        least = np.array([(shingles * a + b).min() >> np.uint64(32) for a, b in zip(_FACTORS, _SUMMANDS, strict=True)])
        signature = least.astype(">u4").tobytes()
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


def resemblance(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the union of two sets of shingles that both have (Jaccard)."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)
