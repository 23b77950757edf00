"""Overlap of a source's training samples with a target's samples: the same files, and samples that are alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.data.dataset import SPLITS, Dataset, Samples
from headstart.data.duplicates import Clusters
from headstart.errors import InputError
from headstart.modalities.alike import Alike, Mark
from headstart.models.bundle import ModelBundle
from headstart.models.sources import Background

# Samples of a source beyond which comparing them all would take longer than ranking.
_MOST_SAMPLES = 50_000
# Samples that are in memory at a time.
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


def overlap(bundle: ModelBundle, known: Background, target: Dataset, *, look_alikes: bool = True) -> Overlap:
    """The overlap of the source's training samples with the target; `look_alikes` also compares what samples show.

    Samples are the same where their files are. Where the source's samples are not known, the digests of its data may
    still be the target's own. Samples are alike as their modality says; they are compared where the source's packed
    data set lies on this machine unchanged, and has at most 50 000 samples.
    """
    if known.learned_from is None:
        trained_on = {name: bundle.provenance.get(name) for name in target.digests}
        if trained_on == target.digests:
            return Overlap({**target.counts, "test": 0}, None, leaks=False)
        return Overlap(None, None, leaks=trained_on["data_digest"] == target.digest)
    ids = {name: target.split(name).ids for name in SPLITS}
    seen = {name: np.array([each in known.learned_from for each in ids[name].tolist()], dtype=bool) for name in SPLITS}
    alike = _look_alikes(bundle, known.data, target, ~seen["test"]) if look_alikes else None
    counts = {name: int(found.sum()) for name, found in seen.items()}
    return Overlap(counts, alike, leaks=counts["test"] > 0 or bool(alike), complete=known.complete)


def _look_alikes(bundle: ModelBundle, place: str | None, target: Dataset, asked: np.ndarray) -> int | None:
    """How many of the target's test samples that are `asked` for, bool (N,), look like one that the source learned."""
    origin, alike = _data_of(bundle, place, target), target.kind.alike
    if origin is None or alike is None:
        return None
    positions = np.flatnonzero(asked)
    compared = [(target.split("test").samples, positions)]
    for name in ("train", "val"):
        samples = origin.split(name).samples
        compared.append((samples, np.arange(len(samples))))
    places = [(samples, row) for samples, rows in compared for row in rows.tolist()]
    marks = [mark for samples, rows in compared for mark in _marks(alike, samples, rows)]
    count = len(positions)
    marked = [position for position, mark in enumerate(marks) if mark is not None]
    known = [mark for mark in marks if mark is not None]
    tests = sum(position < count for position in marked)
    near = [*range(tests), *(tests + row for row in alike.near(known[tests:], known[:tests]))]
    if len(near) == tests:
        return 0
    chosen = [marked[each] for each in near]

    def sample(number: int) -> np.ndarray:
        samples, row = places[chosen[number]]
        values: np.ndarray = samples[row]
        return values

    pairs = alike.pairs([known[each] for each in near], sample)
    clusters = Clusters()
    for one, other in pairs:
        clusters.join(one, other)
    learned = {clusters.of(position) for position in range(tests, len(chosen))}
    return sum(clusters.of(position) in learned for position in range(tests))


def _marks(alike: Alike, samples: Samples, rows: np.ndarray) -> Iterator[Mark | None]:
    """The fingerprint of each of the samples at positions `rows`, int (n,)."""
    for start in range(0, len(rows), _READ):
        yield from alike.marks(list(samples[rows[start : start + _READ]]))


def _data_of(bundle: ModelBundle, place: str | None, target: Dataset) -> Dataset | None:
    """The packed data set that the source was trained on, if it is here, unchanged and can be compared."""
    if place is None or "://" in place or bundle.modality != target.modality:
        return None
    try:
        origin = Dataset.open(Path(place))
        if origin.split_digest("train") != bundle.provenance.get("train_digest"):
            return None
    except InputError:
        return None
    alike = target.kind.alike
    few = origin.counts["train"] + origin.counts["val"] <= _MOST_SAMPLES
    return origin if few and alike is not None and alike.comparable(origin.shape, target.shape) else None
