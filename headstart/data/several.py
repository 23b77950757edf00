"""Several labels a sample: how data sets write them, and which samples stand for the rare ones.

A label reads `circle;red`; `none` says that a sample has none of the labels, and `?red` that nobody knows whether it
has that one. A list of names in Parquet says the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from headstart.data.columns import Coded
from headstart.data.listing import Listing, natural
from headstart.data.task import SEPARATOR
from headstart.errors import InputError
from headstart.metrics.task import MULTI_LABEL

NONE = "none"
_UNKNOWN = "?"
# How many of a budget's samples have each label at the least, as far as there are any: one to train on, one held out.
_LEAST = 2


def labels_of(text: str) -> tuple[list[str], list[str]]:
    """The labels that a sample has, and those of which nobody knows whether it has them."""
    parts = [part.strip() for part in text.split(SEPARATOR)]
    named = [part for part in parts if part and part != NONE]
    unknown = [part.removeprefix(_UNKNOWN).strip() for part in named if part.startswith(_UNKNOWN)]
    return [part for part in named if not part.startswith(_UNKNOWN)], unknown


def marks_of(texts: Iterable[str], names: Sequence[str]) -> np.ndarray:
    """The labels of samples, int8 (N, K): 1 where one has the label, 0 where not, -1 where that is not known."""
    column = texts if isinstance(texts, Coded) else Coded.of(texts)
    index = {name: number for number, name in enumerate(names)}
    marks = np.zeros((len(column.values), len(names)), dtype=np.int8)
    for row, text in zip(marks, column.values, strict=True):
        has, unknown = labels_of(text)
        row[[index[name] for name in has]] = 1
        row[[index[name] for name in unknown]] = -1
    return marks[column.codes]


def with_several(listing: Listing) -> Listing:
    """The listing with its labels taken for several each: in one order, without repetitions, and with the names of all
    as `several`.

    Raises:
        InputError: a label is missing or contradicts itself, or no sample has any.
    """
    column = listing.columns.labels
    first = dict(zip(*np.unique(column.codes, return_index=True), strict=True))
    texts = [
        _in_order(text, f"{listing.name}: the label of {listing.files[int(first[number])].path}")
        if number in first
        else NONE
        for number, text in enumerate(column.values)
    ]
    different = Coded.of(texts)
    found = [labels_of(text) for text in different.values]
    names = {name for has, _ in found for name in has}
    unseen = sorted({name for _, unknown in found for name in unknown} - names)
    if unseen:
        raise InputError(f"{listing.name}: no sample has the label '{unseen[0]}', of which some are not known to.")
    if not names:
        raise InputError(f"{listing.name}: no sample has any label; there is nothing to learn.")
    files = listing.columns.labelled(Coded(different.values, different.codes[column.codes]))
    return replace(listing, files=files, classes=(), several=natural(names), task=MULTI_LABEL)


def strata_names(labels: Coded[str], names: Sequence[str]) -> Coded[str]:
    """For each sample its label that the fewest have, `none` without any: the part of the samples that splits and folds
    share out, so that each has some of every label."""
    return Coded([*names, NONE], rarest(marks_of(labels, names)).astype(np.int32))


def rarest(labels: np.ndarray) -> np.ndarray:
    """The label of each sample that the fewest of all samples have, int (N,), of labels (N, K); K for a sample with
    none."""
    has = labels == 1
    order = np.argsort(has.sum(axis=0), kind="stable")
    found: np.ndarray = np.where(has.any(axis=1), order[has[:, order].argmax(axis=1)], labels.shape[1])
    return found


def one_each(labels: np.ndarray) -> np.ndarray:
    """Labels (N,) as they are, and of several (N, K) the `rarest` of each sample: by these parts are spread."""
    return rarest(labels) if labels.ndim == 2 else labels


def standing_for_labels(labels: Coded[str], names: Sequence[str], ranks: np.ndarray) -> np.ndarray:
    """Whether each sample is one that a budget begins with, bool (N,): of each label the two of lowest `ranks`, float
    (N,), the rarest label first; none without labels' names."""
    chosen = np.zeros(len(labels), dtype=bool)
    if not names:
        return chosen
    has, order = marks_of(labels, names) == 1, np.argsort(ranks, kind="stable")
    for label in np.argsort(has.sum(axis=0), kind="stable").tolist():
        lacking = max(0, _LEAST - int((has[:, label] & chosen).sum()))
        of_label = order[has[order, label] & ~chosen[order]]
        chosen[of_label[:lacking]] = True
    return chosen


def check_labels(listing: Listing, learned: Coded[str], tested: Coded[str]) -> list[str]:
    """Notes for the report about labels that no test sample has; none where samples do not have several.

    Raises:
        InputError: no training sample has some label.
    """
    names = listing.several
    if not names:
        return []
    for name, count in zip(names, counts_of(learned, names), strict=True):
        if not count:
            raise InputError(
                f"{listing.name}: no training sample has the label '{name}'; add samples that have it, or a larger "
                "label_budget."
            )
    untested = [name for name, count in zip(names, counts_of(tested, names), strict=True) if not count]
    if not untested:
        return []
    shown = ", ".join(f"'{name}'" for name in untested[:10])
    return [f"No test sample has {shown}: the figures say nothing about it."]


def counts_of(labels: Coded[str], names: Sequence[str]) -> list[int]:
    """How many samples have each label."""
    return [int(count) for count in (marks_of(labels, names) == 1).sum(axis=0)]


def _in_order(text: str, at: str) -> str:
    has, unknown = labels_of(text)
    wrong = None
    if not text.strip(SEPARATOR + " "):
        wrong = f"is missing; write {NONE} for a sample with none of the labels"
    elif (has or unknown) and NONE in [part.strip() for part in text.split(SEPARATOR)]:
        wrong = f"'{text}' names labels and '{NONE}', which stands for no label; leave one out"
    elif both := sorted(set(has) & set(unknown)):
        wrong = f"'{text}' says both that '{both[0]}' is there and that nobody knows; leave one out"
    elif "" in unknown:
        wrong = f"'{text}' has a '{_UNKNOWN}' without a label's name; write it behind"
    if wrong:
        raise InputError(f"{at} {wrong}.")
    return SEPARATOR.join([*sorted(set(has)), *(_UNKNOWN + name for name in sorted(set(unknown)))]) or NONE
