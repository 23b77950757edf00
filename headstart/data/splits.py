"""Splits: a function of a sample's content and the seed decides its split, so that adding files moves no old one."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headstart.data.columns import ROWS, Coded
from headstart.data.dataset import SPLITS
from headstart.data.duplicates import Pair
from headstart.data.hashing import positions
from headstart.data.listing import Listing, place
from headstart.data.samples import Readable
from headstart.errors import InputError

UNUSED = "unused"
"""The index's split of samples that `labels_per_class` leaves out."""

ASSIGNED = (*SPLITS, UNUSED)
"""What a sample's split may be."""

# 200 of 1000 labels: VTAB-1k, Zhai et al., "A large-scale study of representation learning with the visual task
# adaptation benchmark", 2019, section 3.1.
_HELD_OUT = 0.2

MIN_EXPECTED = 10
"""A class is shared out by thresholds where each split expects this many of its contents or more.

Then a split ends up empty in fewer than 1 of 20 000 classes (e^-10) and misses its share by a third at one
standard deviation at the most; below that, ranks give every split its exact share.
"""


def split_samples(
    samples: Readable, listing: Listing, near: Sequence[Pair], shares: Mapping[str, float], seed: int
) -> tuple[np.ndarray, list[str]]:
    """The number in `ASSIGNED` of each sample's split, int8 (N,), and the notes for the report.

    Without given splits all samples are shared out; with them, those in train are, among train and what is missing.
    What belongs together (copies, what looks the same, a group) is shared out as one, with the class of most of it.
    """
    given = samples.files.splits
    split_of = np.array([ASSIGNED.index(name or "train") for name in given.values], dtype=np.int8)[given.codes]
    missing = [name for name in ("val", "test") if name not in listing.splits and shares[name] > 0]
    notes = _parted_groups(samples)
    if listing.splits and missing:
        notes.append(f"The folder has no {' and no '.join(missing)} split: carved out of its train split.")
    if not missing:
        return split_of, notes
    pool_total = shares["train"] + sum(shares[name] for name in missing)
    pool_shares = {name: shares[name] / pool_total for name in ("train", *missing)}
    in_pool = split_of == ASSIGNED.index("train")
    pool = samples.take(in_pool)
    units = units_of(pool, near)
    labels, places = _labels_of_units(pool, units), positions(_keys(pool, units), seed)
    assigned = np.empty(len(places), dtype=np.int8)
    counts: dict[str, int] = defaultdict(int)
    for label, members in _members(labels):
        counts[pool.files.labels.values[label]] = len(members)
        assigned[members] = _assigned(places[members], pool_shares)
    split_of[in_pool] = assigned[units]
    small = [label for label in _labels(listing) if is_small(counts[label], pool_shares)]
    if small:
        notes.append(
            f"Too few samples for thresholds on the content hash to give every split its share{_names(small)}. "
            "Split by rank of the same hash instead, so files added later may move samples between splits."
        )
    return split_of, notes


@dataclass(frozen=True)
class Budget:
    """A number of labels, `key` in recipes: of each class, or of all samples where they have no classes.

    Of several labels a sample, `first` says which samples, bool (N,), come before all others, and those that are held
    out are shared out by `strata` in the place of classes.
    """

    key: str
    number: int
    first: np.ndarray | None = None
    strata: Coded[str] | None = None


def limit_labels(samples: Readable, split_of: np.ndarray, near: Sequence[Pair], budget: Budget, seed: int) -> list[str]:
    """Keep the lowest-ranked samples of each class among training and validation together and share them out anew.

    All others of the two splits become UNUSED; the test split stays. Of n labels of a class a fifth is held out for
    validation, one at least where there are two, and none where there is one; samples that belong together stay in one
    split. Changes `split_of`, as `split_samples` returns it, and returns the notes for the report.
    """
    key, most = budget.key, budget.number
    rows = np.flatnonzero((split_of == ASSIGNED.index("train")) | (split_of == ASSIGNED.index("val")))
    pool = samples.take(rows)
    labels = pool.files.labels
    # Copies rank behind all first occurrences: a label spent on one teaches nothing.
    seen, places = _occurrence(pool.contents), positions(pool.ids, seed)
    later = np.zeros(len(rows), dtype=bool) if budget.first is None else ~budget.first[rows]
    order = np.lexsort((places, seen, later, labels.codes))
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[_occurrence(labels.codes[order]) < most]] = True
    split_of[rows] = ASSIGNED.index(UNUSED)
    chosen = pool.take(kept)
    shared = chosen if budget.strata is None else chosen.labelled(budget.strata.take(rows[kept]))
    held_out = _held_out(shared, near, seed)
    split_of[rows[kept]] = np.where(held_out, ASSIGNED.index("val"), ASSIGNED.index("train"))
    count = int(held_out.sum())
    notes = [
        f"{key} = {most}: {len(chosen)} labels, of which {len(chosen) - count} train and "
        f"{count} are held out to choose and calibrate; {len(pool) - len(chosen)} samples are unused."
    ]
    numbers, first, counts = np.unique(labels.codes, return_index=True, return_counts=True)
    few = [number for _, number, found in sorted(zip(first, numbers, counts, strict=True)) if found < most]
    if few:
        notes.append(
            f"Fewer than {key} = {most} samples beside the test split, all of them used"
            f"{_names([labels.values[number] for number in few])}."
        )
    return notes


def _held_out(samples: Readable, near: Sequence[Pair], seed: int) -> np.ndarray:
    """Whether each sample of a budget's is one for validation, bool (N,): those of the highest-ranked sets that leave
    every class its share to train on."""
    labels, units = samples.files.labels, units_of(samples, near)
    room = [max(1, round(_HELD_OUT * count)) if count > 1 else 0 for count in labels.counts.tolist()]
    places = positions(_keys(samples, units), seed)
    pairs, counts = np.unique(units * len(labels.values) + labels.codes, return_counts=True)
    of, label_of = np.divmod(pairs, len(labels.values))
    bounds = np.searchsorted(of, np.arange(len(places) + 1)).tolist()
    asked = list(zip(label_of.tolist(), counts.tolist(), strict=True))
    chosen = np.zeros(len(places), dtype=bool)
    for unit in np.argsort(-places, kind="stable").tolist():
        of_unit = asked[bounds[unit] : bounds[unit + 1]]
        if all(count <= room[label] for label, count in of_unit):
            chosen[unit] = True
            for label, count in of_unit:
                room[label] -= count
    return chosen[units]


def check_splits(samples: Readable, split_of: np.ndarray, listing: Listing, shares: Mapping[str, float]) -> list[str]:
    """Returns notes; InputError if a class has no sample to train on, or none to test."""
    labels = samples.files.labels
    pairs = np.unique(labels.codes.astype(np.int64) * len(ASSIGNED) + split_of).tolist()
    present = {(labels.values[pair // len(ASSIGNED)], ASSIGNED[pair % len(ASSIGNED)]) for pair in pairs}
    for label in _labels(listing):
        for name in ("train", "test"):
            if (label, name) not in present:
                raise InputError(
                    f"{place(listing.name, label)} has no sample for the {name} split; "
                    "add files of different content to it, at least one for each of train and test."
                )
    without_val = [label for label in _labels(listing) if (label, "val") not in present]
    if without_val and (shares["val"] > 0 or "val" in listing.splits):
        return [f"No validation sample{_names(without_val)}."]
    return []


def is_small(contents: int, shares: Mapping[str, float]) -> bool:
    """Whether a class of so many distinct contents is ranked: some split would expect fewer than MIN_EXPECTED."""
    return contents * min(share for share in shares.values() if share > 0) < MIN_EXPECTED


def assign(positions: Sequence[float], shares: Mapping[str, float]) -> list[str]:
    """The split of each distinct content of one class, given their positions in [0, 1).

    The unit interval is cut in the order train, val, test by the shares. A class that `is_small` is cut by
    rank instead: in the order of positions, as many contents for each split as `_counts` says.
    """
    return [ASSIGNED[number] for number in _assigned(np.asarray(positions, dtype=np.float64), shares).tolist()]


def _assigned(places: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    """What `assign` returns, as numbers in `ASSIGNED`, int8 (n,)."""
    order = [name for name in SPLITS if shares.get(name, 0) > 0]
    numbers = np.array([ASSIGNED.index(name) for name in order], dtype=np.int8)
    if not is_small(len(places), shares):
        bounds = [sum(shares[name] for name in order[: end + 1]) for end in range(len(order) - 1)]
        return numbers[np.searchsorted(bounds, places, side="right")]
    counts = _counts(len(places), {name: shares[name] for name in order})
    split_of = np.empty(len(places), dtype=np.int8)
    split_of[np.argsort(places, kind="stable")] = numbers.repeat([counts[name] for name in order])
    return split_of


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """The number of contents of each split, `total` in all: one each for train, test and val in this order, as far as
    they go.

    Each further one goes to the split that lies furthest below its share.
    """
    counts = dict.fromkeys(shares, 0)
    for name in [name for name in ("train", "test", "val") if name in shares][:total]:
        counts[name] = 1
    while sum(counts.values()) < total:
        counts[max(shares, key=lambda name: shares[name] * total - counts[name])] += 1
    return counts


def units_of(samples: Readable, near: Sequence[Pair]) -> np.ndarray:
    """The number of the set that each sample belongs to, int (N,), in the order of their first members: copies, what
    looks the same, a group."""
    together = samples.contents
    groups = samples.files.groups
    grouped = np.flatnonzero(_named(groups))
    if len(grouped) or near:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ones = np.array([pair.one.content for pair in near], dtype=np.int64)
        others = np.array([pair.other.content for pair in near], dtype=np.int64)
        count = 1 + max(int(each.max(initial=-1)) for each in (together, ones, others))
        rows = np.concatenate([ones, samples.contents[grouped]])
        columns = np.concatenate([others, count + groups.codes[grouped]])
        size = count + len(groups.values)
        edges = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(size, size))
        together = connected_components(edges, directed=False)[1][samples.contents]
    return _by_first(together)


def group_names(samples: Readable, near: Sequence[Pair]) -> Coded[str | None]:
    """The name of the set that each sample belongs to; None for those that are alone and have no group."""
    units, groups = units_of(samples, near), samples.files.groups
    named = _lowest(units, groups)
    single = np.bincount(units) == 1
    first = _lowest_digests(samples, units)
    digests = [samples.digests[row].tobytes().hex() for row in first[~single & (named < 0)].tolist()]
    # The names of groups, those of sets without one, and none.
    number = np.full(len(single), len(groups.values) + len(digests))
    number[named >= 0] = named[named >= 0]
    number[~single & (named < 0)] = len(groups.values) + np.arange(len(digests))
    return Coded([*groups.values, *digests, None], number[units])


def _labels_of_units(samples: Readable, units: np.ndarray) -> np.ndarray:
    """The label of most of each set, the first by name among several, as a number of the samples' labels."""
    labels = samples.files.labels
    pairs, counts = np.unique(units * len(labels.values) + labels.codes, return_counts=True)
    of, label = np.divmod(pairs, len(labels.values))
    order = np.lexsort((_rank(labels.values)[label], -counts, of))
    # The first of each set.
    return label[order[np.searchsorted(of[order], np.arange(int(units.max(initial=-1)) + 1))]]


def _keys(samples: Readable, units: np.ndarray) -> Iterator[str]:
    """The text whose hash decides each set's split: the lowest name of its groups, which stays when samples are added,
    or else its lowest digest, which stays unless a lower one is added."""
    named, first = _lowest(units, samples.files.groups), _lowest_digests(samples, units)
    for start in range(0, len(first), ROWS):
        digests = samples.digests[first[start : start + ROWS]].tobytes().hex()
        for number, name in enumerate(named[start : start + ROWS].tolist()):
            is_digest = name < 0
            yield digests[64 * number : 64 * number + 64] if is_digest else f"group:{samples.files.groups.values[name]}"


def _lowest(units: np.ndarray, groups: Coded[str | None]) -> np.ndarray:
    """The group with the lowest name of each set, as a number, -1 without one, int (n,)."""
    found = np.full(int(units.max(initial=-1)) + 1, -1)
    grouped = np.flatnonzero(_named(groups))
    names = [name or "" for name in groups.values]
    order = grouped[np.argsort(_rank(names)[groups.codes[grouped]])[::-1]]
    # The last that is written stays.
    found[units[order]] = groups.codes[order]
    return found


def _lowest_digests(samples: Readable, units: np.ndarray) -> np.ndarray:
    """The position of a sample with the lowest digest of each set, int (n,)."""
    found = np.empty(int(units.max(initial=-1)) + 1, dtype=np.int64)
    order = np.argsort(samples.contents)[::-1]
    found[units[order]] = order
    return found


def _named(groups: Coded[str | None]) -> np.ndarray:
    """Whether each row has a group, bool (N,)."""
    return np.array([name is not None for name in groups.values], dtype=bool)[groups.codes]


def _rank(names: Sequence[str]) -> np.ndarray:
    """The rank of each name in their order, int."""
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks


def _by_first(numbers: np.ndarray) -> np.ndarray:
    """The numbers renamed from 0 on in the order in which each occurs first."""
    _, first, of = np.unique(numbers, return_index=True, return_inverse=True)
    renamed = np.empty(len(first), dtype=np.int64)
    renamed[np.argsort(first)] = np.arange(len(first))
    return renamed[of]


def _members(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each number that occurs, and the positions that have it, rising."""
    order = np.argsort(numbers, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(order)]
    for start, stop in pairwise(bounds):
        if start < stop:
            yield int(numbers[order[start]]), order[start:stop]


def _occurrence(numbers: np.ndarray) -> np.ndarray:
    """How many equal ones come before each number, int (N,)."""
    order = np.argsort(numbers, kind="stable")
    places = np.arange(len(numbers))
    is_first = np.concatenate([[True], np.diff(numbers[order]) != 0])[: len(numbers)]
    found = np.empty(len(numbers), dtype=np.int64)
    found[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return found


def _parted_groups(samples: Readable) -> list[str]:
    groups, splits = samples.files.groups, samples.files.splits
    grouped = np.flatnonzero(_named(groups))
    pairs = np.unique(groups.codes[grouped].astype(np.int64) * len(splits.values) + splits.codes[grouped])
    numbers, counts = np.unique(pairs // max(1, len(splits.values)), return_counts=True)
    first = dict.fromkeys(groups.codes[grouped].tolist()) if (counts > 1).any() else {}
    parted = set(numbers[counts > 1].tolist())
    names = [groups.values[number] or "" for number in first if number in parted]
    return [f"The given splits part {len(names)} groups{_names(names)}: what measures is not new."] if names else []


def _labels(listing: Listing) -> tuple[str, ...]:
    """The labels that occur: the classes, or none, which is one too."""
    return listing.classes or ("",)


def _names(labels: Sequence[str]) -> str:
    """The end of a sentence about these labels; nothing where there are none to name."""
    if list(labels) == [""]:
        return ""
    shown = ": " + ", ".join(f"'{label}'" for label in labels[:10])
    return shown + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
