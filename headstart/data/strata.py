"""Strata: ranges of numbers, or the rarest of several labels, that take the place of classes where splits, folds and
parts should have some of each."""

from dataclasses import replace

import numpy as np

from headstart.data.columns import Coded
from headstart.data.listing import Listing, natural
from headstart.data.samples import Readable
from headstart.data.several import rarest, strata_names
from headstart.data.task import number_of
from headstart.errors import InputError
from headstart.metrics.tally import is_of_classes, is_of_several
from headstart.metrics.task import REGRESSION

# Ranges of equal numbers of items: more would tell less from less, and each fold should have some of every one.
_MOST, _LEAST_ITEMS = 10, 5


def strata(labels: np.ndarray) -> np.ndarray:
    """The stratum of each label, int (N,): its class; of numbers the range between quantiles that it lies in, up to 10
    ranges of 5 items or more; of several labels, (N, K), the one that the fewest items have, K for none."""
    if is_of_several(labels):
        return rarest(labels)
    if is_of_classes(labels):
        return labels
    count = max(1, min(_MOST, len(labels) // _LEAST_ITEMS))
    bounds = np.unique(np.quantile(labels, np.linspace(0, 1, count + 1)[1:-1])) if len(labels) else np.empty(0)
    # Numbers that many items share, as counts do, make fewer ranges.
    return np.unique(np.searchsorted(bounds, labels, side="left"), return_inverse=True)[1]


def in_strata(listing: Listing, samples: Readable) -> tuple[Listing, Readable]:
    """The listing and the samples with the names of strata in the place of labels that are numbers, or several each."""
    labels = samples.files.labels
    if listing.several:
        of_labels = strata_names(labels, listing.several)
        return replace(listing, classes=natural(set(of_labels.occurring))), samples.labelled(of_labels)
    numbers = np.array([float(label) for label in labels.values])[labels.codes]
    of = strata(numbers)
    names = [_name(numbers[of == number]) for number in range(int(of.max(initial=-1)) + 1)]
    # Ranges of numbers that lie closely together may have one name.
    different = Coded.of(names)
    renamed = samples.labelled(Coded(different.values, different.codes[of]))
    return replace(listing, classes=tuple(names)), renamed


def with_numbers(listing: Listing) -> Listing:
    """The listing with its labels taken for numbers.

    Raises:
        InputError: one is none, which the message names, or all are the same.
    """
    for file in listing.files:
        if number_of(file.label) is None:
            shown = f"'{file.label}'" if file.label else "none"
            raise InputError(
                f"{listing.name}: the label of {file.path} is {shown}, and regression learns numbers; correct it, or "
                "say task: single_label for classes."
            )
    if len({float(file.label) for file in listing.files}) < 2:
        raise InputError(f"{listing.name}: all labels are {listing.files[0].label}; there is nothing to learn.")
    return replace(listing, classes=(), task=REGRESSION)


def _name(numbers: np.ndarray) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
