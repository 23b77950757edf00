"""Near duplicates: recordings that sound the same, as copies do that were encoded again, made quieter or resampled.

A recording's form is its map in dB below its loudest value, down to -40, so that gain does not matter; it leaves out
the upper quarter of the bands, which resampling and strong compression take away. Two recordings are near duplicates
where their forms in 100 × 12 cells, moved against each other by up to four cells, differ by at most 2 dB (root mean
square of the cells where either is heard). Candidates are found by a fingerprint of 64 bits that differs in at most 9:
whether the step from one of 9 bands to the next grew from one of 9 stretches of time to the next (after Haitsma and
Kalker 2002, "A highly robust audio fingerprinting system"). Measured on speech: docs/audio.md.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from headstart.modalities import Shape
from headstart.modalities.alike import Alike, Mark
from headstart.modalities.audio.spectrogram import to_db

BITS = 9
_RANGE = 40.0
_COARSE = (9, 9)
_FINE = (100, 12)
_MOST_MOVED = 4
_MAX_DISTANCE = 2.0
_REACH = 1.5  # dB between coarse forms, which averaging brings closer: that of copies moved by 25 ms is 1.3 at most
# A steady tone or noise looks like any other of its pitch.
_MIN_CHANGE = 1.0
_AT_ONCE = 512
_KEPT = 4096  # forms


class SoundsAlike(Alike):
    verb = "sound"

    def marks(self, samples: Sequence[np.ndarray]) -> list[Mark | None]:
        return [_mark(sample) for sample in samples]

    def pairs(self, marks: Sequence[Mark], sample: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
        from scipy.cluster.hierarchy import DisjointSet

        form = lru_cache(_KEPT)(lambda number: _form(sample(number), _FINE))
        connected = DisjointSet(range(len(marks)))
        found = []
        for i, j in _close(marks, marks):
            if i < j and not connected.connected(i, j) and _distance(form(i), form(j)) <= _MAX_DISTANCE:
                connected.merge(i, j)
                found.append((i, j))
        return sorted(found)

    def comparable(self, one: Shape, other: Shape) -> bool:
        return one == other

    def near(self, marks: Sequence[Mark], others: Sequence[Mark]) -> list[int]:
        return sorted({i for i, _ in _close(marks, others)})


SOUNDS_ALIKE = SoundsAlike()


def _mark(sample: np.ndarray) -> Mark | None:
    coarse = _form(sample, _COARSE)
    if coarse.std(axis=0).mean() < _MIN_CHANGE:
        return None
    bits = np.diff(np.diff(coarse, axis=1), axis=0) > 0
    values = np.rint((coarse + _RANGE) * (255 / _RANGE)).astype(np.uint8)
    return Mark(int.from_bytes(np.packbits(bits).tobytes(), "big"), values.tobytes())


def _close(marks: Sequence[Mark], others: Sequence[Mark]) -> Iterator[tuple[int, int]]:
    """Positions of fingerprints that differ in at most `BITS` bits, and whose coarse forms are close.

    All are compared: a product of matrices takes some ten seconds for a hundred thousand recordings, which took minutes
    to decode.
    """
    (signs, forms), (other_signs, other_forms) = _arrays(marks), _arrays(others)
    for top in range(0, len(signs), _AT_ONCE):
        for left in range(0, len(other_signs), _AT_ONCE):
            agreement = signs[top : top + _AT_ONCE] @ other_signs[left : left + _AT_ONCE].T
            rows, columns = np.nonzero(agreement >= 64 - 2 * BITS)
            rows, columns = rows + top, columns + left
            near = np.square(forms[rows] - other_forms[columns]).mean(axis=1) <= _REACH**2
            yield from zip(rows[near].tolist(), columns[near].tolist(), strict=True)


def _arrays(marks: Sequence[Mark]) -> tuple[np.ndarray, np.ndarray]:
    """The bits of the marks as -1 and 1, float32 (n, 64), and their coarse forms in dB, float32 (n, 81)."""
    hashes = np.array([mark.hash for mark in marks], dtype=">u8")
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(marks), 8), axis=1)
    forms = np.frombuffer(b"".join(mark.coarse for mark in marks), np.uint8).reshape(
        len(marks), _COARSE[0] * _COARSE[1]
    )
    return bits.astype(np.float32) * 2 - 1, forms.astype(np.float32) * np.float32(_RANGE / 255)


def _form(sample: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """A map uint8 (frames, mels, 1) as dB below its loudest value, float32 (frames, bands) averaged to so many cells;
    fewer where the map has fewer."""
    heard = to_db(sample[:, : sample.shape[1] * 3 // 4, 0])
    form = np.maximum(heard - heard.max(), -_RANGE)
    for axis, wanted in enumerate(cells):
        length = form.shape[axis]
        edges = np.linspace(0, length, min(wanted, length) + 1).astype(int)
        lengths = np.diff(edges)
        sums = np.add.reduceat(form, edges[:-1], axis=axis)
        form = sums / (lengths[:, None] if axis == 0 else lengths)
    return form


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """dB between two forms where they fit best."""
    found = []
    for moved in range(-_MOST_MOVED, _MOST_MOVED + 1):
        early, late = one[max(0, moved) : len(one) + min(0, moved)], other[max(0, -moved) : len(other) - max(0, moved)]
        heard = np.maximum(early, late) > 1 - _RANGE
        if heard.any():
            found.append(float(np.sqrt(np.square(early - late)[heard].mean())))
    return min(found, default=np.inf)
