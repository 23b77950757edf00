"""Turns a data reference into a packed data set: read, check, split, pack, report; the manifest comes last."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import FORMAT_VERSION, SPLITS, Dataset
from headstart.data.duplicates import contradictions, copies, leaks
from headstart.data.folder import Labels, Listing, Refusal, list_folder, place
from headstart.data.hashing import merkle_digest, position
from headstart.data.reference import local_folder
from headstart.data.report import render_report
from headstart.data.samples import Sample, hashed, read_samples
from headstart.data.splits import assign, check_shares, is_small
from headstart.errors import InputError
from headstart.modalities import modality as find_modality
from headstart.storage.local import new_directory, write_json, write_text

UNUSED = "unused"
"""The index's split of training samples that `labels_per_class` leaves out."""


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
    seed: int = 0,
) -> Dataset:
    """Packs the samples that `uri` refers to into the directory `destination`, atomically.

    `size` is the side of a stored sample in pixels, by default that of the modality's own architecture; `channels`
    1 or 3, or None for 1 if all samples are grey and 3 otherwise. `split` gives the shares of train, val and test;
    splits that the folder gives are kept, and those that it lacks are carved out of its train. `labels` says which
    samples have one; a data set without labels has no classes. `labels_per_class` leaves that many distinct training
    samples a class. An older packed data set at `destination` is replaced.
    InputError, with nothing written, where the reference, an argument or a class is unusable; single unreadable files
    go to quarantine.jsonl.
    """
    shares = check_shares(split)
    kind = find_modality(modality)
    size = kind.default_size(kind.default_architecture) if size is None else size
    _check_arguments(size, channels, labels_per_class)
    root = local_folder(uri)
    _check_destination(root, destination)
    listing = list_folder(root, kind.extensions, labels)
    if labels_per_class is not None and not listing.classes:
        raise InputError(f"labels_per_class: {uri} has no labels; leave it out.")
    with new_directory(destination) as draft, tempfile.TemporaryFile(dir=draft) as spool:
        readable, unreadable = read_samples(listing, kind, size=size, channels=channels, spool=spool)
        selection = _select(listing, readable, unreadable, shares, labels_per_class, seed)
        shape = (size, size, channels or max(sample.channels for sample in selection.samples))
        manifest = {
            "format_version": FORMAT_VERSION,
            "modality": modality,
            "digest": _digest(selection.samples),
            "classes": list(listing.classes),
            "shape": list(shape),
            "splits": {name: _describe(selection.of(name), listing.classes) for name in (*SPLITS, UNUSED)},
            "source": {"uri": uri, "given_splits": list(listing.splits)},
            "settings": {"split": shares, "labels_per_class": labels_per_class, "seed": seed},
            "quarantined": len(selection.refused),
            "notes": selection.notes,
        }
        _write(draft, selection, spool, shape, manifest)
    return Dataset.open(destination)


@dataclass(frozen=True)
class _Selection:
    """What becomes of the files: `split_of` maps the path of every sample taken in to its split or UNUSED."""

    samples: list[Sample]
    split_of: dict[str, str]
    refused: list[Refusal]
    leaks: list[Refusal]
    notes: list[str]

    def of(self, split: str) -> list[Sample]:
        return [sample for sample in self.samples if self.split_of[sample.file.path] == split]


def _select(
    listing: Listing,
    readable: list[Sample],
    unreadable: list[Refusal],
    shares: Mapping[str, float],
    labels_per_class: int | None,
    seed: int,
) -> _Selection:
    contradicting = contradictions(readable)
    samples = _without(readable, contradicting)
    leaking = leaks(samples)
    samples = _without(samples, leaking)
    refused = [hashed(listing.root, refusal) for refusal in listing.refused]
    refused = sorted([*refused, *unreadable, *contradicting, *leaking], key=lambda refusal: refusal.path)
    _check_classes_survive(listing, samples, refused)
    split_of, notes = _split(samples, listing, shares, seed)
    if labels_per_class is not None:
        notes += _limit_labels(samples, split_of, labels_per_class, seed)
    notes += _check_splits(samples, split_of, listing, shares)
    return _Selection(samples, split_of, refused, leaking, notes)


def _write(
    draft: Path, selection: _Selection, spool: BinaryIO, shape: tuple[int, int, int], manifest: dict[str, Any]
) -> None:
    for name in SPLITS:
        _pack(selection.of(name), spool, shape, draft / f"{name}.npy")
    _write_index(selection, draft / "index.parquet")
    write_text(draft / "quarantine.jsonl", "".join(_quarantine_line(refusal) for refusal in selection.refused))
    page = render_report(
        manifest,
        train_samples=np.load(draft / "train.npy", mmap_mode="r"),
        train_labels=[sample.file.label for sample in selection.of("train")],
        refused=selection.refused,
        duplicates=[[sample.file.path for sample in group] for group in copies(selection.samples)],
        leaks=selection.leaks,
    )
    write_text(draft / "report.html", page)
    write_json(draft / "manifest.json", manifest)


def _check_arguments(size: int, channels: int | None, labels_per_class: int | None) -> None:
    if size < 1:
        raise InputError(f"size: {size} is not a side length in pixels; give 1 or more.")
    if channels not in (None, 1, 3):
        raise InputError(f"channels: {channels} is not supported; give 1 (grey) or 3 (RGB), or leave it out.")
    if labels_per_class is not None and labels_per_class < 1:
        raise InputError(f"labels_per_class: {labels_per_class} leaves nothing to train on; give 1 or more.")


def _check_destination(root: Path, destination: Path) -> None:
    """A wrong destination must not cost anybody a folder: only a packed data set is ever replaced."""
    target = destination.resolve()
    if target == root or target.is_relative_to(root) or root.is_relative_to(target):
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
                f"{place(listing.root, file.label)} has no usable sample ({file.path}: {reasons[file.path]}); "
                "replace its files or remove its folder."
            )


def _split(
    samples: Sequence[Sample], listing: Listing, shares: Mapping[str, float], seed: int
) -> tuple[dict[str, str], list[str]]:
    """The split of each sample by path, and what a reader of the report should know about it.

    Without given splits all samples are shared out; with them, those in train are, among train and what is missing.
    """
    split_of = {sample.file.path: sample.file.split or "train" for sample in samples}
    missing = [name for name in ("val", "test") if name not in listing.splits and shares[name] > 0]
    notes = []
    if listing.splits and missing:
        notes.append(f"The folder has no {' and no '.join(missing)} split: carved out of its train split.")
    if not missing:
        return split_of, notes
    pool_total = shares["train"] + sum(shares[name] for name in missing)
    pool_shares = {name: shares[name] / pool_total for name in ("train", *missing)}
    contents: dict[str, dict[str, float]] = defaultdict(dict)
    for sample in samples:
        if split_of[sample.file.path] == "train":
            contents[sample.file.label][sample.sha256] = position(sample.sha256, seed)
    assigned: dict[str, str] = {}
    for positions in contents.values():
        assigned |= zip(positions, assign(list(positions.values()), pool_shares), strict=True)
    for sample in samples:
        if split_of[sample.file.path] == "train":
            split_of[sample.file.path] = assigned[sample.sha256]
    small = [label for label in _labels(listing) if is_small(len(contents[label]), pool_shares)]
    if small:
        notes.append(
            f"Too few samples for thresholds on the content hash to give every split its share{_names(small)}. "
            "Split by rank of the same hash instead, so files added later may move samples between splits."
        )
    return split_of, notes


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
                    f"{place(listing.root, label)} has no sample for the {name} split; "
                    "add files of different content to it, at least one for each of train and test."
                )
    without_val = [label for label in _labels(listing) if (label, "val") not in present]
    if without_val and (shares["val"] > 0 or "val" in listing.splits):
        return [f"No validation sample{_names(without_val)}."]
    return []


def _pack(samples: Sequence[Sample], spool: BinaryIO, shape: tuple[int, int, int], path: Path) -> None:
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(samples), *shape))
    for row, sample in enumerate(samples):
        stored = (*shape[:2], sample.channels)
        spool.seek(sample.offset)
        pixels = np.frombuffer(spool.read(int(np.prod(stored))), dtype=np.uint8)
        packed[row] = pixels.reshape(stored)  # a grey sample among coloured ones broadcasts over the channels
    packed.flush()


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
    text = pa.string()
    columns = {
        "id": pa.array([sample.sha256 for sample in selection.samples], text),
        "path": pa.array([sample.file.path for sample in selection.samples], text),
        "label": pa.array([sample.file.label for sample in selection.samples], text),
        "split": pa.array([selection.split_of[sample.file.path] for sample in selection.samples], text),
        # Images in folders name no group; the column is part of the format, for sources that do.
        "group": pa.nulls(len(selection.samples), text),
    }
    pq.write_table(pa.table(columns), path)


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
