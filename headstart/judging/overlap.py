"""Overlap of a source's training samples with a target's samples: the same files, and pictures that look alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.data.dataset import SPLITS, Dataset, Samples
from headstart.data.duplicates import Clusters
from headstart.data.near_duplicates import BITS, Look, bit_count, looks_of, near_duplicates
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.sources import Background

# Source pictures beyond which looking at them all would take longer than ranking.
_MOST_PICTURES = 50_000
# Pictures stored at this side or more have thumbnails of one size.
_COMPARABLE_SIDE = 32
_CHUNK = 2**24
# Pictures that are in memory at a time.
_READ = 256


@dataclass(frozen=True)
class Overlap:
    """The target's samples that a source, or a source of it, was trained on, by split; further test samples that look
    like one that it was trained on; and whether it was, or may have been, trained on test samples. None: unknown.
    Numbers that are not `complete` are lower bounds, as a source of it may have seen more."""

    samples: dict[str, int] | None
    look_alikes: int | None
    leaks: bool
    complete: bool = True


def overlap(bundle: ModelBundle, known: Background, target: Dataset) -> Overlap:
    """The overlap of the source's training samples with the target.

    Samples are the same where their files are. Where the source's samples are not known, the digests of its data may
    still be the target's own. Pictures look alike as `headstart.data.near_duplicates` defines it; they are compared
    where the source's packed data set lies on this machine unchanged, and has at most 50 000 pictures.
    """
    if known.learned_from is None:
        trained_on = {name: bundle.provenance.get(name) for name in target.digests}
        if trained_on == target.digests:
            return Overlap({**target.counts, "test": 0}, None, leaks=False)
        return Overlap(None, None, leaks=trained_on["data_digest"] == target.digest)
    ids = {name: target.split(name).ids for name in SPLITS}
    seen = {name: np.array([each in known.learned_from for each in ids[name].tolist()], dtype=bool) for name in SPLITS}
    alike = _look_alikes(bundle, known.data, target, ~seen["test"])
    counts = {name: int(found.sum()) for name, found in seen.items()}
    return Overlap(counts, alike, leaks=counts["test"] > 0 or bool(alike), complete=known.complete)


def _look_alikes(bundle: ModelBundle, place: str | None, target: Dataset, asked: np.ndarray) -> int | None:
    """How many of the target's test samples that are `asked` for, bool (N,), look like one that the source learned."""
    origin = _data_of(bundle, place, target)
    if origin is None:
        return None
    positions = np.flatnonzero(asked)
    compared = [(target.split("test").samples, positions)]
    for name in ("train", "val"):
        samples = origin.split(name).samples
        compared.append((samples, np.arange(len(samples))))
    places = [(samples, row) for samples, rows in compared for row in rows.tolist()]
    looks = [look for samples, rows in compared for look in _looks(samples, rows)]
    count = len(positions)
    shown = [position for position, look in enumerate(looks) if look is not None]
    hashes = np.array([look.hash for look in looks if look is not None], dtype=np.uint64)
    tests = sum(position < count for position in shown)
    near = [*range(tests), *(tests + _near_any(hashes[tests:], hashes[:tests]))]
    if len(near) == tests:
        return 0
    chosen = [shown[each] for each in near]

    def picture(number: int) -> np.ndarray:
        samples, row = places[chosen[number]]
        pixels: np.ndarray = samples[row]
        return pixels

    pairs = near_duplicates([look for each in chosen if (look := looks[each])], picture)
    alike = Clusters()
    for one, other in pairs:
        alike.join(one, other)
    learned = {alike.of(position) for position in range(tests, len(chosen))}
    return sum(alike.of(position) in learned for position in range(tests))


def _looks(samples: Samples, rows: np.ndarray) -> Iterator[Look | None]:
    """The look of each of the samples at positions `rows`, int (n,)."""
    for start in range(0, len(rows), _READ):
        yield from looks_of(list(samples[rows[start : start + _READ]]))


def _data_of(bundle: ModelBundle, place: str | None, target: Dataset) -> Dataset | None:
    """The packed data set that the source was trained on, if it is here, unchanged and can be compared."""
    if place is None or "://" in place or bundle.modality != "image":
        return None
    try:
        origin = Dataset.open(Path(place))
        if origin.split_digest("train") != bundle.provenance.get("train_digest"):
            return None
    except InputError:
        return None
    sides = {origin.shape[0], target.shape[0]}
    few = origin.counts["train"] + origin.counts["val"] <= _MOST_PICTURES
    return origin if few and (len(sides) == 1 or min(sides) >= _COMPARABLE_SIDE) else None


def _near_any(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The positions of the hashes that differ from any of the others in as few bits as those of near duplicates."""
    found = np.zeros(len(hashes), dtype=bool)
    rows = max(1, _CHUNK // max(len(others), 1))
    for start in range(0, len(hashes), rows):
        different = bit_count(hashes[start : start + rows, None] ^ others)
        found[start : start + rows] = (different <= BITS).any(axis=1)
    return np.flatnonzero(found)
