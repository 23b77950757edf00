"""Turns a data reference into a packed data set: read, check, split, pack, report; the manifest comes last."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import FORMAT_VERSION, Dataset
from headstart.data.duplicates import Checked, check_duplicates, describe_near
from headstart.data.hashing import positions
from headstart.data.listing import Labels, Listing, Refusal
from headstart.data.packing import Selection, choose_store, class_counts, describe, write
from headstart.data.reference import is_local, listed, local_folder, located
from headstart.data.refusals import check_classes_survive, check_refused, describe_refused
from headstart.data.samples import Readable, hashed
from headstart.data.section import Data
from headstart.data.several import check_labels, standing_for_labels
from headstart.data.shards import read_part, read_samples
from headstart.data.shelf import Shelf
from headstart.data.splits import ASSIGNED, Budget, check_splits, limit_labels, split_samples
from headstart.data.strata import in_strata
from headstart.data.streaming import arrays_at_once, state_to_stream_from, streamed_where_asked
from headstart.data.tree import one_line
from headstart.errors import HeadstartError, InputError
from headstart.metrics.task import MULTI_LABEL, NUMBER, REGRESSION
from headstart.modalities import Modality
from headstart.modalities import modality as find_modality
from headstart.sections import Section
from headstart.storage.local import new_directory, resumed_directory
from headstart.storage.state import State

log = logging.getLogger(__name__)

_WITHOUT_CLASSES = (REGRESSION, MULTI_LABEL)


def prepare(
    data: Data,
    destination: Path,
    *,
    modality: str = "image",
    labels: Labels = "required",
    seed: int = 0,
    parts: State | None = None,
) -> Dataset:
    """Packs the samples that `data` refers to into the directory `destination`, atomically.

    A run that was killed or interrupted is continued by the next one with the same destination: a file that was read is
    not read again, unless it has changed. What `data.input` leaves open suits the modality's own architecture and the
    samples. Splits that the reference gives are kept, and those that it lacks are carved out of its train. `labels`
    says which samples have one, unless `data.labels` does. An older packed data set at `destination` is replaced.
    `parts` is a state in which `prepare_part` has left what other processes have read: the data set is the same to the
    last byte, and only what is missing there is read here.

    Raises:
        InputError: the reference, a setting or a class is unusable; nothing is written. Single unreadable files go to
            quarantine.jsonl. Notes for the user are in the manifest, and each is a warning.
    """
    kind, given = _read_by(data, modality)
    with _written(destination):
        _check_destination(data.uri, destination)
    with (
        _written(destination),
        resumed_directory(destination) as work,
        listed(data.uri, kind, data.wanted(labels), scratch=work, given=given, task=data.task) as listing,
    ):
        data = _learned(data, listing)
        state = state_to_stream_from(data)
        checked, unreadable, shelf = _read_and_checked(listing, kind, given, work, parts or state, data)
        selection = _select(listing, checked, unreadable, data, kind, seed)
        shape = kind.shape_of(selection.samples.shapes, given)
        store, store_notes = choose_store(selection, shape, kind, data.store)
        notes = selection.notes + store_notes + kind.notes(selection.samples.facts, given)
        manifest = {
            "format_version": FORMAT_VERSION,
            "modality": modality,
            "digest": selection.digest,
            "classes": list(NUMBER if data.task == REGRESSION else listing.classes or listing.several),
            "input": kind.as_stored(given, shape).model_dump(mode="json"),
            "shape": list(shape),
            "store": store,
            "splits": describe(selection, listing.classes, listing.several),
            **_of_task(selection, listing, data.task),
            "source": {"uri": data.uri, "given_splits": list(listing.splits)},
            "settings": {**data.model_dump(include=_settings(data)), "seed": seed},
            "quarantined": len(selection.refused),
            "notes": notes,
        }
        with new_directory(destination) as draft:
            packed = streamed_where_asked(Dataset(draft, manifest), selection, shelf, data.stream, state)
            write(packed, selection, shelf)
    for note in notes:
        log.warning("%s: %s", listing.name, note)
    return Dataset.open(destination)


def prepare_part(
    data: Data, state: State, *, part: int, parts: int, modality: str = "image", labels: Labels = "required"
) -> tuple[int, int]:
    """Reads the part of the samples that `data` refers to that has the number `part`, from 0, of `parts`, and leaves it
    in the state for `prepare`; returns the number of its files, and of those that were read now.

    What the state has is not read again, so that a part that failed, or was killed, is done alone and from where it
    was. Parts are kept for 14 days. Files of which nothing tells whether they have changed, as those of a download, are
    left to `prepare`.

    Raises:
        InputError: the reference or a setting is unusable.
    """
    kind, given = _read_by(data, modality)
    with (
        tempfile.TemporaryDirectory(dir=state.folder) as scratch,
        listed(data.uri, kind, data.wanted(labels), scratch=Path(scratch), given=given, task=data.task) as listing,
    ):
        return read_part(listing, kind, given, Path(scratch), kept=state, part=part, parts=parts)


def _read_by(data: Data, modality: str) -> tuple[Modality, Section]:
    """The modality, and its section with what `data.input` leaves open; InputError also where there are no data."""
    located(data.uri)
    kind = find_modality(modality)
    return kind, kind.input.of(kind.settled(data.input, kind.default_architecture), at="input")


def _learned(data: Data, listing: Listing) -> Data:
    """The section with the task that the labels are learned as."""
    data = data.learned_as(listing.task)
    if data.labels_per_class is not None and not listing.classes:
        raise InputError(f"labels_per_class: {data.uri} has no labels; leave it out.")
    return data


def _read_and_checked(
    listing: Listing, kind: Modality, given: Section, work: Path, kept: State | None, data: Data
) -> tuple[Checked, list[Refusal], Shelf]:
    """The samples beside their duplicates, the files that cannot be read, and the shelf with the samples' arrays. All
    samples, of which those that remain may be a copy, are let go of."""
    most = None if data.stream == "never" else arrays_at_once(data)
    readable, unreadable, shelf = read_samples(listing, kind, given, work, kept=kept, most=most)
    check_refused(_unclassed(listing), unreadable, kind, data)
    return check_duplicates(listing.name, readable, shelf, kind, data.duplicates), unreadable, shelf


def _select(
    listing: Listing, checked: Checked, unreadable: list[Refusal], data: Data, kind: Modality, seed: int
) -> Selection:
    samples, shares = checked.samples, data.split.model_dump()
    unlisted = [hashed(listing, refusal) for refusal in listing.refused]
    refused = sorted([*unlisted, *unreadable, *checked.refused], key=lambda refusal: refusal.path)
    has_classes = data.task not in _WITHOUT_CLASSES
    stratified, strata = (listing, samples) if has_classes else in_strata(listing, samples)
    # Numbers, and sets of labels, are no classes, each of which would need samples in every split.
    unclassed, of_classes = (listing, samples) if has_classes else (_unclassed(listing), samples.unlabelled())
    check_classes_survive(unclassed, of_classes, refused)
    split_of, notes = split_samples(strata, stratified, checked.near, shares, seed)
    notes = [*filter(None, [listing.looks]), *notes]
    if (budget := _budget(data, listing, samples, strata, split_of, seed)) is not None:
        notes += limit_labels(of_classes, split_of, checked.near, budget, seed)
    notes += check_splits(of_classes, split_of, unclassed, shares)
    selection = Selection(samples, split_of, refused, checked.leaks, checked.near, notes)
    notes += check_labels(listing, selection.labels_of("train"), selection.labels_of("test"))
    notes += describe_near(checked.near, kind) + describe_refused(refused)
    return selection


def _budget(
    data: Data, listing: Listing, samples: Readable, strata: Readable, split_of: np.ndarray, seed: int
) -> Budget | None:
    """The label budget that the recipe asks for; `strata` are the samples with the names of their strata as labels."""
    if data.labels_per_class is not None:
        return Budget("labels_per_class", data.labels_per_class)
    if data.label_budget is None:
        return None
    if not listing.several:
        return Budget("label_budget", data.label_budget)
    rows, first = np.flatnonzero(split_of != ASSIGNED.index("test")), np.zeros(len(samples), dtype=bool)
    ranks = positions(samples.ids, seed)[rows]
    first[rows] = standing_for_labels(samples.files.labels.take(rows), listing.several, ranks)
    return Budget("label_budget", data.label_budget, first, strata.files.labels)


def _settings(data: Data) -> set[str]:
    return {"split", "labels_per_class", "duplicates"} | ({"label_budget"} if data.task in _WITHOUT_CLASSES else set())


def _of_task(selection: Selection, listing: Listing, task: str) -> dict[str, Any]:
    """The manifest's entries of a task that is not single_label: its name, and of a regression how many of each range
    of numbers the splits have."""
    if task != REGRESSION:
        return {"task": MULTI_LABEL} if listing.several else {}
    strata, samples = in_strata(listing, selection.samples)
    counts = {name: class_counts(samples.files.labels.take(selection.is_in(name)), strata.classes) for name in ASSIGNED}
    return {"task": REGRESSION, "strata": {"names": list(strata.classes), "counts": counts}}


def _unclassed(listing: Listing) -> Listing:
    """The listing without labels that are not the names of classes, of which each would be one."""
    return listing if listing.classes else replace(listing, files=listing.columns.unlabelled())


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
