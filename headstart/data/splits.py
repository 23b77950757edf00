"""Splits: a function of a sample's content and the seed decides its split, so that adding files moves no old one."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from headstart.data.dataset import SPLITS
from headstart.data.duplicates import Clusters, Pair
from headstart.data.hashing import position
from headstart.data.listing import Listing, place
from headstart.data.samples import Sample
from headstart.errors import InputError

UNUSED = "unused"
"""The index's split of samples that `labels_per_class` leaves out."""

# 200 of 1000 labels: VTAB-1k, Zhai et al., "A large-scale study of representation learning with the visual task
# adaptation benchmark", 2019, section 3.1.
_HELD_OUT = 0.2

MIN_EXPECTED = 10
"""A class is shared out by thresholds where each split expects this many of its contents or more.

Then a split ends up empty in fewer than 1 of 20 000 classes (e^-10) and misses its share by a third at one
standard deviation at the most; below that, ranks give every split its exact share.
"""


def split_samples(
    samples: Sequence[Sample], listing: Listing, near: Sequence[Pair], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, str], list[str]]:
    """The split of each sample by path, and the notes for the report.

    Without given splits all samples are shared out; with them, those in train are, among train and what is missing.
    What belongs together (copies, what looks the same, a group) is shared out as one, with the class of most of it.
    """
    split_of = {sample.file.path: sample.file.split or "train" for sample in samples}
    missing = [name for name in ("val", "test") if name not in listing.splits and shares[name] > 0]
    notes = _parted_groups(samples)
    if listing.splits and missing:
        notes.append(f"The folder has no {' and no '.join(missing)} split: carved out of its train split.")
    if not missing:
        return split_of, notes
    pool_total = shares["train"] + sum(shares[name] for name in missing)
    pool_shares = {name: shares[name] / pool_total for name in ("train", *missing)}
    pool = [sample for sample in samples if split_of[sample.file.path] == "train"]
    units = units_of(pool, near)
    contents: dict[str, dict[str, float]] = defaultdict(dict)
    for unit in units:
        contents[_label(unit)][unit[0].file.path] = position(_key(unit), seed)
    assigned: dict[str, str] = {}
    for positions in contents.values():
        assigned |= zip(positions, assign(list(positions.values()), pool_shares), strict=True)
    for unit in units:
        for sample in unit:
            split_of[sample.file.path] = assigned[unit[0].file.path]
    small = [label for label in _labels(listing) if is_small(len(contents[label]), pool_shares)]
    if small:
        notes.append(
            f"Too few samples for thresholds on the content hash to give every split its share{_names(small)}. "
            "Split by rank of the same hash instead, so files added later may move samples between splits."
        )
    return split_of, notes


def limit_labels(
    samples: Sequence[Sample],
    split_of: dict[str, str],
    near: Sequence[Pair],
    labels_per_class: int,
    seed: int,
    *,
    key: str = "labels_per_class",
) -> list[str]:
    """Keep the lowest-ranked samples of each class among training and validation together and share them out anew.

    All others of the two splits become UNUSED; the test split stays. Of n labels of a class a fifth is held out for
    validation, one at least where there are two, and none where there is one; samples that belong together stay in one
    split. Changes `split_of` in place and returns the notes for the report, which call the number by its `key`.
    """
    pool: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for sample in samples:
        if split_of[sample.file.path] in ("train", "val"):
            # Copies rank behind all first occurrences: a label spent on one teaches nothing.
            rank = (seen[sample.sha256], position(sample.sha256, seed), sample.file.path)
            pool[sample.file.label].append(rank)
            seen[sample.sha256] += 1
    kept: set[str] = set()
    for ranks in pool.values():
        ordered = [path for *_, path in sorted(ranks)]
        kept.update(ordered[:labels_per_class])
        split_of.update(dict.fromkeys(ordered[labels_per_class:], UNUSED))
    held_out = _held_out([sample for sample in samples if sample.file.path in kept], near, seed)
    split_of.update({path: "val" if path in held_out else "train" for path in kept})
    unused = sum(map(len, pool.values())) - len(kept)
    notes = [
        f"{key} = {labels_per_class}: {len(kept)} labels, of which {len(kept) - len(held_out)} train and "
        f"{len(held_out)} are held out to choose and calibrate; {unused} samples are unused."
    ]
    short = [label for label, ranks in pool.items() if len(ranks) < labels_per_class]
    if short:
        notes.append(
            f"Fewer than {key} = {labels_per_class} samples beside the test split, all of them used{_names(short)}."
        )
    return notes


def _held_out(samples: Sequence[Sample], near: Sequence[Pair], seed: int) -> set[str]:
    """The paths of the validation samples among a budget's: the highest-ranked sets that leave every class its share
    to train on."""
    counts = Counter(sample.file.label for sample in samples)
    room = {label: max(1, round(_HELD_OUT * count)) if count > 1 else 0 for label, count in counts.items()}
    paths: set[str] = set()
    for unit in sorted(units_of(samples, near), key=lambda unit: position(_key(unit), seed), reverse=True):
        asked = Counter(sample.file.label for sample in unit)
        if all(asked[label] <= room[label] for label in asked):
            paths.update(sample.file.path for sample in unit)
            room = {label: left - asked[label] for label, left in room.items()}
    return paths


def check_splits(
    samples: Sequence[Sample], split_of: Mapping[str, str], listing: Listing, shares: Mapping[str, float]
) -> list[str]:
    """Returns notes; InputError if a class has no sample to train on, or none to test."""
    present = {(sample.file.label, split_of[sample.file.path]) for sample in samples}
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
    order = [name for name in SPLITS if shares.get(name, 0) > 0]
    if not is_small(len(positions), shares):
        bounds = [sum(shares[name] for name in order[: end + 1]) for end in range(len(order) - 1)]
        return [order[sum(position >= bound for bound in bounds)] for position in positions]
    counts = _counts(len(positions), {name: shares[name] for name in order})
    by_rank = [name for name in order for _ in range(counts[name])]
    ranked = sorted(range(len(positions)), key=positions.__getitem__)
    split_of = dict(zip(ranked, by_rank, strict=True))
    return [split_of[index] for index in range(len(positions))]


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


def units_of(samples: Sequence[Sample], near: Sequence[Pair]) -> list[list[Sample]]:
    """The samples in sets that belong together: copies, what looks the same, a group."""
    together = Clusters()
    for sample in samples:
        if sample.file.group is not None:
            together.join(sample.sha256, ("group", sample.file.group))
    for pair in near:
        together.join(pair.one.sha256, pair.other.sha256)
    units: dict[object, list[Sample]] = defaultdict(list)
    for sample in samples:
        units[together.of(sample.sha256)].append(sample)
    return list(units.values())


def group_names(samples: Sequence[Sample], near: Sequence[Pair]) -> dict[str, str]:
    """The name of the set that each sample belongs to, by path; without those that are alone and have no group."""
    named: dict[str, str] = {}
    for unit in units_of(samples, near):
        groups = [sample.file.group for sample in unit if sample.file.group is not None]
        if groups or len(unit) > 1:
            name = min(groups or (sample.sha256 for sample in unit))
            named |= {sample.file.path: name for sample in unit}
    return named


def _label(unit: Sequence[Sample]) -> str:
    """The label of most of a set, the first by name among several."""
    if len(unit) == 1:
        return unit[0].file.label
    return min(Counter(sample.file.label for sample in unit).items(), key=lambda item: (-item[1], item[0]))[0]


def _key(unit: Sequence[Sample]) -> str:
    """The text whose hash decides a set's split: the lowest name of its groups, which stays when samples are added, or
    else its lowest digest, which stays unless a lower one is added."""
    if len(unit) == 1 and unit[0].file.group is None:
        return unit[0].sha256
    groups = [sample.file.group for sample in unit if sample.file.group is not None]
    return f"group:{min(groups)}" if groups else min(sample.sha256 for sample in unit)


def _parted_groups(samples: Sequence[Sample]) -> list[str]:
    splits: dict[str, set[str | None]] = defaultdict(set)
    for sample in samples:
        if sample.file.group is not None:
            splits[sample.file.group].add(sample.file.split)
    parted = [group for group, of_group in splits.items() if len(of_group) > 1]
    return [f"The given splits part {len(parted)} groups{_names(parted)}: what measures is not new."] if parted else []


def _labels(listing: Listing) -> tuple[str, ...]:
    """The labels that occur: the classes, or none, which is one too."""
    return listing.classes or ("",)


def _names(labels: Sequence[str]) -> str:
    """The end of a sentence about these labels; nothing where there are none to name."""
    if list(labels) == [""]:
        return ""
    shown = ": " + ", ".join(f"'{label}'" for label in labels[:10])
    return shown + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
