"""Turns a data reference into a packed data set: read, check, split, pack, report; the manifest comes last."""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import FORMAT_VERSION, SPLITS, Dataset, Store
from headstart.data.duplicates import (
    Clusters,
    Pair,
    Policy,
    contradictions,
    copies,
    leaks,
    near_leaks,
    near_pairs,
    refuse_any,
    spare,
)
from headstart.data.encoded import write_encoded
from headstart.data.hashing import merkle_digest, position
from headstart.data.listing import Labels, Listing, Refusal, place
from headstart.data.reference import is_local, listed, local_folder, located
from headstart.data.report import render_report
from headstart.data.samples import Sample, hashed
from headstart.data.shards import pixels_of, read_samples
from headstart.data.splits import assign, check_shares, is_small
from headstart.data.tree import one_line
from headstart.errors import HeadstartError, InputError
from headstart.modalities import Modality
from headstart.modalities import modality as find_modality
from headstart.storage.local import new_directory, resumed_directory, sync, write_text

log = logging.getLogger(__name__)

UNUSED = "unused"
"""The index's split of training samples that `labels_per_class` leaves out."""

RAW_LIMIT = 16 * 2**30
"""Bytes of pixels, of all splits together, above which samples are kept as JPEG where nobody says how: what a machine
can hold in memory, without which plain pixels are not read fast either."""

_ROWS_AT_ONCE = 1024

_FEW, _FEW_OF_CLASS = 10, 5
"""So many refused files, and so many of one class, never fail a preparation: of a small folder they are no share that
says anything."""


def prepare(
    uri: str,
    destination: Path,
    *,
    modality: str = "image",
    size: int | None = None,
    channels: int | None = None,
    split: Mapping[str, float],
    labels: Labels = "required",
    labels_per_class: int | None = None,
    duplicates: Policy = "report",
    max_refused: float = 0.01,
    max_refused_per_class: float = 0.05,
    store: Literal["auto"] | Store = "auto",
    seed: int = 0,
) -> Dataset:
    """Packs the samples that `uri` refers to into the directory `destination`, atomically.

    A run that was killed or interrupted is continued by the next one with the same destination: what it has read is
    not read again, unless it has changed.

    `size` is the side of a stored sample in pixels, by default that of the modality's own architecture; `channels`
    1 or 3, or None for 1 if all samples are grey and 3 otherwise. `split` gives the shares of train, val and test;
    splits that the folder gives are kept, and those that it lacks are carved out of its train. `labels` says which
    samples have one; a data set without labels has no classes. `labels_per_class` leaves that many distinct training
    samples a class. `duplicates` says what becomes of copies and near duplicates within a split; across splits there
    never are any. `max_refused` and `max_refused_per_class` are the shares of unreadable files that are put up with.
    `store` says how samples are kept; auto is raw up to `RAW_LIMIT` and jpeg above. An older packed data set at
    `destination` is replaced.
    InputError, with nothing written, where the reference, an argument or a class is unusable; single unreadable files
    go to quarantine.jsonl. What a user should know of the result is in the manifest's notes, and a warning.
    """
    shares = check_shares(split)
    kind = find_modality(modality)
    size = kind.default_size(kind.default_architecture) if size is None else size
    _check_arguments(size, channels, labels_per_class)
    located(uri)
    with _written(destination):
        _check_destination(uri, destination)
    with (
        _written(destination),
        resumed_directory(destination) as work,
        listed(uri, kind, labels, scratch=work) as listing,
    ):
        if labels_per_class is not None and not listing.classes:
            raise InputError(f"labels_per_class: {uri} has no labels; leave it out.")
        readable, unreadable = read_samples(listing, kind, size=size, channels=channels, folder=work)
        _check_refused(listing, unreadable, kind, max_refused, max_refused_per_class)
        checked = _check_duplicates(listing, readable, size, duplicates)
        selection = _select(listing, checked, unreadable, shares, labels_per_class, seed)
        shape = (size, size, channels or max(sample.channels for sample in selection.samples))
        kept, note = _store(selection, shape, store)
        manifest = {
            "format_version": FORMAT_VERSION,
            "modality": modality,
            "digest": _digest(selection.samples),
            "classes": list(listing.classes),
            "shape": list(shape),
            "store": kept,
            "splits": {name: _describe(selection.of(name), listing.classes) for name in (*SPLITS, UNUSED)},
            "source": {"uri": uri, "given_splits": list(listing.splits)},
            "settings": {
                "split": shares,
                "labels_per_class": labels_per_class,
                "duplicates": duplicates,
                "seed": seed,
            },
            "quarantined": len(selection.refused),
            "notes": selection.notes + note,
        }
        with new_directory(destination) as draft:
            _write(Dataset(draft, manifest), selection)
    for said in selection.notes + note:
        log.warning("%s: %s", listing.name, said)
    return Dataset.open(destination)


@contextmanager
def _written(destination: Path) -> Iterator[None]:
    """Explains what the file system refuses: mostly to write, as the disk is full. Single samples that cannot be read
    are refused one by one."""
    try:
        yield
    except OSError as error:
        # pyarrow's own errors have no number.
        reason, place = error.strerror or one_line(error), Path(str(error.filename or destination))
        if place.absolute().is_relative_to(destination.absolute().parent):
            raise HeadstartError(
                f"{destination} cannot be written ({reason}); make room there, or choose another place, and run again."
            ) from error
        raise HeadstartError(f"{place} cannot be used ({reason}); see to that and run again.") from error


@dataclass(frozen=True)
class _Selection:
    """What becomes of the files: `split_of` maps the path of every sample taken in to its split or UNUSED."""

    samples: list[Sample]
    split_of: dict[str, str]
    refused: list[Refusal]
    leaks: list[Refusal]
    near: list[Pair]
    notes: list[str]

    def of(self, split: str) -> list[Sample]:
        return [sample for sample in self.samples if self.split_of[sample.file.path] == split]


@dataclass(frozen=True)
class _Checked:
    """The samples without what is refused for what other samples are; `leaks` are among `refused`."""

    samples: list[Sample]
    refused: list[Refusal]
    leaks: list[Refusal]
    near: list[Pair]


def _check_duplicates(listing: Listing, readable: list[Sample], size: int, policy: Policy) -> _Checked:
    pairs = near_pairs(readable, lambda sample: pixels_of(sample, size))
    contradicting = contradictions(readable)
    if policy == "fail":
        refuse_any(listing.name, contradicting, readable, pairs)
    samples = _without(readable, contradicting)
    leaking = leaks(samples)
    samples = _without(samples, leaking)
    leaking += near_leaks(samples, pairs)
    samples = _without(samples, leaking)
    spared = spare(samples, pairs) if policy == "drop" else []
    return _Checked(_without(samples, spared), [*contradicting, *leaking, *spared], leaking, pairs)


def _select(
    listing: Listing,
    checked: _Checked,
    unreadable: list[Refusal],
    shares: Mapping[str, float],
    labels_per_class: int | None,
    seed: int,
) -> _Selection:
    samples = checked.samples
    refused = [hashed(listing, refusal) for refusal in listing.refused]
    refused = sorted([*refused, *unreadable, *checked.refused], key=lambda refusal: refusal.path)
    _check_classes_survive(listing, samples, refused)
    split_of, notes = _split(samples, listing, checked.near, shares, seed)
    if labels_per_class is not None:
        notes += _limit_labels(samples, split_of, labels_per_class, seed)
    notes += _check_splits(samples, split_of, listing, shares)
    notes += _describe_near(checked.near)
    notes += _describe_refused(refused)
    return _Selection(samples, split_of, refused, checked.leaks, checked.near, notes)


def _write(packed: Dataset, selection: _Selection) -> None:
    """Fills the directory of a data set that so far is its manifest alone."""
    for name in SPLITS:
        _pack(selection.of(name), packed.shape, packed.store, packed.path / packed.samples_file(name))
    _write_index(selection, packed.path / "index.parquet")
    lines = (_quarantine_line(refusal) for refusal in selection.refused)
    write_text(packed.path / "quarantine.jsonl", "".join(lines))
    page = render_report(
        packed.manifest,
        train_samples=packed.samples("train"),
        train_labels=[sample.file.label for sample in selection.of("train")],
        dimensions=[(sample.width, sample.height) for sample in selection.samples],
        stored_bytes=sum((packed.path / packed.samples_file(name)).stat().st_size for name in SPLITS),
        refused=selection.refused,
        duplicates=[[sample.file.path for sample in group] for group in copies(selection.samples)],
        near=[(pair.one.file.path, pair.other.file.path) for pair in selection.near],
        leaks=selection.leaks,
    )
    write_text(packed.path / "report.html", page)
    # The manifest says that everything else is there, and what it holds.
    sync(packed.path)
    packed.write_manifest()


def _check_arguments(size: int, channels: int | None, labels_per_class: int | None) -> None:
    if size < 1:
        raise InputError(f"size: {size} is not a side length in pixels; give 1 or more.")
    if channels not in (None, 1, 3):
        raise InputError(f"channels: {channels} is not supported; give 1 (grey) or 3 (RGB), or leave it out.")
    if labels_per_class is not None and labels_per_class < 1:
        raise InputError(f"labels_per_class: {labels_per_class} leaves nothing to train on; give 1 or more.")


def _check_refused(
    listing: Listing, unreadable: Sequence[Refusal], kind: Modality, limit: float, limit_of_class: float
) -> None:
    """InputError, with a summary, if more of the files that should hold a sample are refused than is put up with."""
    unlisted = [refusal for refusal in listing.refused if _claims_a_sample(refusal, kind)]
    counts = Counter(file.label for file in listing.files)
    paths = {refusal.path for refusal in unreadable}
    label_of = {file.path: file.label for file in listing.files if file.path in paths}
    by_class = Counter(label_of[refusal.path] for refusal in unreadable)
    for label, count in by_class.items():
        if label and counts[label] > count > max(_FEW_OF_CLASS, limit_of_class * counts[label]):
            summary = _summary([refusal for refusal in unreadable if label_of[refusal.path] == label])
            raise InputError(
                f"{place(listing.name, label)}: {count} of {counts[label]} files are refused, more than the "
                f"{limit_of_class:.1%} that max_refused_per_class allows: {summary}. Mend or remove them, or allow "
                "more."
            )
    refused, total = [*unreadable, *unlisted], len(listing.files) + len(unlisted)
    # Where nothing is left of a class, that is what is wrong.
    if all(count < counts[label] for label, count in by_class.items()) and len(refused) > max(_FEW, limit * total):
        raise InputError(
            f"{listing.name}: {len(refused)} of {total} files are refused, more than the {limit:.1%} that max_refused "
            f"allows: {_summary(refused)}. Mend or remove them, or allow more."
        )


def _claims_a_sample(refusal: Refusal, kind: Modality) -> bool:
    return refusal.reason != "hidden" and Path(refusal.path).suffix.lower() in kind.extensions


def _summary(refused: Sequence[Refusal]) -> str:
    """How often each reason is given, the most frequent first, each with a file."""
    reasons = Counter(refusal.reason for refusal in refused)
    first = {refusal.reason: refusal.path for refusal in reversed(refused)}
    shown = [f"{first[reason]}: {reason} ({count} such)" for reason, count in reasons.most_common(3)]
    return "; ".join(shown) + (f"; and {len(reasons) - 3} further reasons" if len(reasons) > 3 else "")


def _check_destination(uri: str, destination: Path) -> None:
    """A wrong destination must not cost anybody a folder: only a packed data set is ever replaced."""
    target = destination.resolve()
    root = local_folder(uri) if is_local(uri) else None
    if root and (target == root or target.is_relative_to(root) or root.is_relative_to(target)):
        raise InputError(f"Destination {destination} and the data folder {root} overlap; choose a folder beside it.")
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / "manifest.json").is_file()):
        raise InputError(f"Destination {destination} exists and is not a packed data set; choose another place.")


def _without(samples: Sequence[Sample], refused: Iterable[Refusal]) -> list[Sample]:
    paths = {refusal.path for refusal in refused}
    return [sample for sample in samples if sample.file.path not in paths]


def _check_classes_survive(listing: Listing, samples: Sequence[Sample], refused: Sequence[Refusal]) -> None:
    surviving = {sample.file.label for sample in samples}
    reasons = {refusal.path: refusal.reason for refusal in refused}
    for file in listing.files:
        if file.label not in surviving:
            raise InputError(
                f"{place(listing.name, file.label)} has no usable sample ({file.path}: {reasons[file.path]}); "
                "replace its files or remove its folder."
            )


def _split(
    samples: Sequence[Sample], listing: Listing, near: Sequence[Pair], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, str], list[str]]:
    """The split of each sample by path, and what a reader of the report should know about it.

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
    units = _units(pool, near)
    contents: dict[str, dict[str, float]] = defaultdict(dict)
    for unit in units:
        label, _ = min(Counter(sample.file.label for sample in unit).items(), key=lambda item: (-item[1], item[0]))
        contents[label][unit[0].file.path] = position(_key(unit), seed)
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


def _units(samples: Sequence[Sample], near: Sequence[Pair]) -> list[list[Sample]]:
    """The samples in sets that belong together."""
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


def _key(unit: Sequence[Sample]) -> str:
    """What decides where a set goes: the name of a group stays when samples are added; of contents, the lowest does
    unless a lower one is added."""
    groups = [sample.file.group for sample in unit if sample.file.group is not None]
    return f"group:{min(groups)}" if groups else min(sample.sha256 for sample in unit)


def _parted_groups(samples: Sequence[Sample]) -> list[str]:
    splits: dict[str, set[str | None]] = defaultdict(set)
    for sample in samples:
        if sample.file.group is not None:
            splits[sample.file.group].add(sample.file.split)
    parted = [group for group, of_group in splits.items() if len(of_group) > 1]
    return [f"The given splits part {len(parted)} groups{_names(parted)}: what measures is not new."] if parted else []


def _describe_near(pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return []
    notes = [f"Near duplicates: {len(pairs)} pairs of different files look the same. They never part between splits."]
    contradicting = [pair for pair in pairs if pair.contradicts]
    if contradicting:
        first = contradicting[0]
        notes.append(
            f"{len(contradicting)} of these pairs have two labels, first {first.one.file.path} and "
            f"{first.other.file.path}: look which is right."
        )
    return notes


def _describe_refused(refused: Sequence[Refusal]) -> list[str]:
    # What systems lay down beside people's files is none of them.
    told = [refusal for refusal in refused if refusal.reason != "hidden"]
    files = "1 file" if len(told) == 1 else f"{len(told)} files"
    return [f"Not taken in: {files}, listed in quarantine.jsonl: {_summary(told)}."] if told else []


def _limit_labels(samples: Sequence[Sample], split_of: dict[str, str], labels_per_class: int, seed: int) -> list[str]:
    """Moves all but the lowest-ranked training samples of each class to UNUSED, in place; returns notes."""
    training: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for sample in samples:
        if split_of[sample.file.path] == "train":
            # Copies rank behind all first occurrences: a label spent on one teaches nothing.
            rank = (seen[sample.sha256], position(sample.sha256, seed), sample.file.path)
            training[sample.file.label].append(rank)
            seen[sample.sha256] += 1
    for ranks in training.values():
        for _, _, path in sorted(ranks)[labels_per_class:]:
            split_of[path] = UNUSED
    short = [label for label, ranks in training.items() if len(ranks) < labels_per_class]
    if short:
        return [f"Fewer than labels_per_class = {labels_per_class} training samples, all of them used{_names(short)}."]
    return []


def _check_splits(
    samples: Sequence[Sample], split_of: Mapping[str, str], listing: Listing, shares: Mapping[str, float]
) -> list[str]:
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


def _store(
    selection: _Selection, shape: tuple[int, int, int], asked: Literal["auto"] | Store
) -> tuple[Store, list[str]]:
    """How the samples are kept, and what a reader of the report should know about it."""
    if asked != "auto":
        return asked, []
    size = math.prod(shape) * sum(split in SPLITS for split in selection.split_of.values())
    if size <= RAW_LIMIT:
        return "raw", []
    return "jpeg", [
        f"Kept as JPEG: plain pixels would take {size / 2**30:,.0f} GiB, more than {RAW_LIMIT / 2**30:,.0f}. Where "
        "there is memory for them, store: raw reads faster."
    ]


def _pack(samples: Sequence[Sample], shape: tuple[int, int, int], store: Store, path: Path) -> None:
    pictures = _pictures(samples, shape)
    if store == "jpeg":
        write_encoded(path, pictures)
        return
    # Not through a memory map, whose pages would stay.
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(samples), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in pictures:
            file.write(pixels.data)


def _pictures(samples: Iterable[Sample], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    for sample in samples:
        pixels = pixels_of(sample, shape[0], last=True)
        # A grey sample among coloured ones broadcasts over the channels.
        yield pixels if pixels.shape == shape else np.ascontiguousarray(np.broadcast_to(pixels, shape))


def _describe(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, Any]:
    by_class = Counter(sample.file.label for sample in samples)
    return {
        "samples": len(samples),
        "digest": _digest(samples),
        "class_counts": [by_class[label] for label in classes],
    }


def _digest(samples: Iterable[Sample]) -> str:
    return merkle_digest((sample.file.path, sample.sha256, sample.file.label) for sample in samples)


def _write_index(selection: _Selection, path: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "path", "label", "split", "group")])
    # In parts, so that no large data set's index is in memory twice.
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(selection.samples), _ROWS_AT_ONCE):
            samples = selection.samples[start : start + _ROWS_AT_ONCE]
            columns = {
                "id": [sample.sha256 for sample in samples],
                "path": [sample.file.path for sample in samples],
                "label": [sample.file.label for sample in samples],
                "split": [selection.split_of[sample.file.path] for sample in samples],
                "group": [sample.file.group for sample in samples],
            }
            writer.write_table(pa.table(columns, schema))


def _quarantine_line(refusal: Refusal) -> str:
    return json.dumps({"path": refusal.path, "sha256": refusal.sha256, "reason": refusal.reason}) + "\n"


def _labels(listing: Listing) -> tuple[str, ...]:
    """The labels that occur: the classes, or none, which is one too."""
    return listing.classes or ("",)


def _names(labels: Sequence[str]) -> str:
    """The end of a sentence about these labels; nothing where there are none to name."""
    if list(labels) == [""]:
        return ""
    shown = ": " + ", ".join(f"'{label}'" for label in labels[:10])
    return shown + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
