"""Refusals: how many of a data set's files may be unreadable, and what is said about them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.data.listing import Listing, Refusal, place
from headstart.data.samples import Readable
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.modalities import Modality

# Up to so many refused files, in all and of one class, never fail a preparation: in a small folder a few are a large
# share.
_FEW, _FEW_OF_CLASS = 10, 5


def check_refused(listing: Listing, unreadable: Sequence[Refusal], kind: Modality, data: Data) -> None:
    """InputError, with a summary, if a larger share of the files that should hold a sample is refused than `data`
    allows."""
    limit, limit_of_class = data.max_refused, data.max_refused_per_class
    unlisted = [refusal for refusal in listing.refused if _claims_a_sample(refusal, kind)]
    files = listing.columns
    counts = dict(zip(files.labels.values, files.labels.counts.tolist(), strict=True))
    refused_files = files.take(np.flatnonzero(files.paths.isin(refusal.path for refusal in unreadable)))
    label_of = {file.path: file.label for file in refused_files}
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


def check_classes_survive(listing: Listing, samples: Readable, refused: Sequence[Refusal]) -> None:
    """InputError if a class has no sample left."""
    labels, surviving = listing.columns.labels, set(samples.files.labels.occurring)
    lost = np.array([label not in surviving for label in labels.values])[labels.codes]
    if lost.any():
        file = listing.files[int(lost.argmax())]
        reasons = {refusal.path: refusal.reason for refusal in refused}
        raise InputError(
            f"{place(listing.name, file.label)} has no usable sample ({file.path}: {reasons[file.path]}); "
            "replace its files or remove its folder."
        )


def describe_refused(refused: Sequence[Refusal]) -> list[str]:
    """The note on the files that are not taken in."""
    # Systems lay hidden files down beside people's own.
    told = [refusal for refusal in refused if refusal.reason != "hidden"]
    files = "1 file" if len(told) == 1 else f"{len(told)} files"
    return [f"Not taken in: {files}, listed in quarantine.jsonl: {_summary(told)}."] if told else []


def _claims_a_sample(refusal: Refusal, kind: Modality) -> bool:
    return refusal.reason != "hidden" and Path(refusal.path).suffix.lower() in kind.extensions


def _summary(refused: Sequence[Refusal]) -> str:
    """The number of refusals by reason, the most frequent first, each with a file."""
    reasons = Counter(refusal.reason for refusal in refused)
    first = {refusal.reason: refusal.path for refusal in reversed(refused)}
    shown = [f"{first[reason]}: {reason} ({count} such)" for reason, count in reasons.most_common(3)]
    return "; ".join(shown) + (f"; and {len(reasons) - 3} further reasons" if len(reasons) > 3 else "")
