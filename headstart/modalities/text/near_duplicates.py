"""Near duplicates: texts that read the same, as copies do that were edited a little or laid out anew.

Two texts are near duplicates where the sets of their shingles, runs of 8 letters and digits in lower case, have at
least 0.8 of their union in common. Candidates are found in linear time by MinHash (Broder 1997, "On the resemblance and
containment of documents"): 64 values, of which 4 in one of 16 bands are the same. Texts that have 80% in common are
missed once in 5000 times. A text of fewer than 32 shingles is like any other of a few words.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from headstart.modalities import Shape
from headstart.modalities.alike import Alike, Mark

LEAST_SHINGLES = 32
_RUN = 8
_BANDS, _ROWS = 16, 4
_ALIKE = 0.8
_COMPARED = 16  # with how many others of a band a text's shingles are compared at most
_KEPT = 4096  # texts whose shingles are in memory
# Random odd factors and summands of 64 bits: multiply-shift hashing (Dietzfelbinger et al. 1997).
_FACTORS, _SUMMANDS = np.random.default_rng(0).integers(1, 2**63, (2, _BANDS * _ROWS), dtype=np.uint64) * 2 + 1
_POWERS = np.array([pow(1_000_003, power, 2**64) for power in range(_RUN)], dtype=np.uint64)


class TextsAlike(Alike):
    verb = "read"

    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        return [_mark(sample) for sample in samples]

    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        from scipy.cluster.hierarchy import DisjointSet

        shingles = lru_cache(_KEPT)(lambda number: shingles_of(sample(number)))
        connected = DisjointSet(range(len(marks)))
        found = []
        for members in _buckets(marks):
            # Each is compared with the first ones of its bucket, so that a thousand copies of a form letter are too.
            for place, j in enumerate(members):
                for i in members[: min(place, _COMPARED)]:
                    if not connected.connected(i, j) and resemblance(shingles(i), shingles(j)) >= _ALIKE:
                        connected.merge(i, j)
                        found.append((i, j))
                        break
        return sorted(found)

    def comparable(self, one: Shape, other: Shape) -> bool:
        return True

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        bands: set[tuple[int, bytes]] = {band for mark in others for band in _bands(mark)}
        return [number for number, mark in enumerate(marks) if not bands.isdisjoint(_bands(mark))]


TEXTS_ALIKE = TextsAlike()


def shingles_of(values: np.ndarray) -> np.ndarray:
    """The hashes, uint64 (n,), different and rising, of the runs of 8 letters and digits in a stored text."""
    letters = np.where((values >= 65) & (values <= 90), values + 32, values)
    letters = letters[((letters >= 97) & (letters <= 122)) | ((letters >= 48) & (letters <= 57)) | (letters >= 128)]
    if len(letters) < _RUN:
        return np.empty(0, dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(letters.astype(np.uint64), _RUN)
    found: np.ndarray = np.unique((runs * _POWERS).sum(axis=1, dtype=np.uint64))
    return found


def resemblance(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the union of two sets of shingles that both have (Jaccard)."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


def _mark(values: np.ndarray) -> Mark | None:
    shingles = shingles_of(values)
    if len(shingles) < LEAST_SHINGLES:
        return None
    # The upper halves, as the lower bits of a product depend on the lower bits alone.
    least = np.array([(shingles * a + b).min() >> np.uint64(32) for a, b in zip(_FACTORS, _SUMMANDS, strict=True)])
    signature = least.astype(">u4").tobytes()
    return Mark(int.from_bytes(signature[:8], "big"), signature)


def _bands(mark: Mark) -> list[tuple[int, bytes]]:
    width = 4 * _ROWS
    return [(band, mark.coarse[band * width : (band + 1) * width]) for band in range(_BANDS)]


def _buckets(marks: Sequence[Mark]) -> list[list[int]]:
    """The positions of two or more marks that have a band in common."""
    found: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for number, mark in enumerate(marks):
        for band in _bands(mark):
            found[band].append(number)
    return [members for members in found.values() if len(members) > 1]
