"""Pairs of predictions: two models on the same test items, as their comparison needs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.errors import HeadstartError
from headstart.metrics.groups import groups_at
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import is_of_classes

if TYPE_CHECKING:
    from headstart.data.dataset import Split
    from headstart.models.bundle import ModelBundle


class ComparisonError(HeadstartError):
    """There are no items on which the two models can be compared."""


@dataclass(frozen=True, eq=False)
class Pair:
    """The predictions of two models for the same items; the arrays are (N,), int indices into `classes` or
    numbers; of several labels (N, K), the labels and how far each is above its threshold."""

    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray
    groups: np.ndarray | None = None
    """str (N,), as in `Predictions`"""
    left_out: int = 0
    """items of the test split that are not among these, as one of the two was trained on them"""

    def without(self, ids: Collection[str]) -> "Pair":
        """The pair without the items whose id is among `ids`. ComparisonError if none is left."""
        keep = ~np.isin(self.ids, list(ids)) if ids else np.ones(len(self.ids), bool)
        if not keep.any():
            raise ComparisonError("one of the two was trained on every item of the test set")
        return replace(
            self,
            ids=self.ids[keep],
            labels=self.labels[keep],
            ours=self.ours[keep],
            theirs=self.theirs[keep],
            groups=groups_at(self.groups, keep),
            left_out=self.left_out + int((~keep).sum()),
        )


def stored_pair(ours: Predictions, theirs: Predictions) -> Pair | None:
    """The pair that stored predictions make; None if they are not about the same items and labels.

    ComparisonError if the two have different classes.
    """
    _check_tasks(ours.task, theirs.task)
    number_of = _numbers(theirs.classes, ours.classes)
    # Copies of a file share their id and their content, so any order among them is as good.
    first, second = np.argsort(ours.ids, kind="stable"), np.argsort(theirs.ids, kind="stable")
    labels = ours.labels[first]
    same = _renumbered(theirs.labels[second], number_of)
    if not (np.array_equal(ours.ids[first], theirs.ids[second]) and np.array_equal(labels, same)):
        return None
    return Pair(
        classes=ours.classes,
        ids=ours.ids[first],
        labels=labels,
        ours=ours.predicted[first],
        theirs=_renumbered(theirs.predicted[second], number_of),
        groups=groups_at(theirs.groups, second) if ours.groups is None else groups_at(ours.groups, first),
    )


def evaluated_pair(ours: "ModelBundle", theirs: "ModelBundle", test: "Split", classes: Sequence[str]) -> Pair:
    """The pair of new predictions of both models on a split, whose labels are indices into `classes`.

    ComparisonError if the models have different classes.
    """
    _check_tasks(ours.task, theirs.task)
    number_of = _numbers(theirs.classes, ours.classes)
    return Pair(
        classes=ours.classes,
        ids=test.ids,
        labels=_renumbered(test.labels, _numbers(classes, ours.classes)),
        ours=ours.kind.predicted(ours.predict_outputs(test.samples)),
        theirs=_renumbered(theirs.kind.predicted(theirs.predict_outputs(test.samples)), number_of),
        groups=test.groups,
    )


def _check_tasks(ours: str, theirs: str) -> None:
    if ours != theirs:
        raise ComparisonError(f"the tasks differ: one answers {ours}, the other {theirs}")


def _renumbered(found: np.ndarray, number_of: np.ndarray) -> np.ndarray:
    """Indices of classes as those of the other model, labels in its order; numbers as they are."""
    if found.ndim == 2:
        reordered = np.empty_like(found)
        reordered[:, number_of] = found
        return reordered
    return number_of[found] if is_of_classes(found) else found


def _numbers(classes: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The positions int (K,) of `classes` among `wanted`."""
    if sorted(classes) != sorted(wanted):
        missing = ", ".join(sorted(set(wanted) ^ set(classes))[:5])
        raise ComparisonError(f"the classes differ: only one of the two knows {missing}")
    return np.array([list(wanted).index(name) for name in classes], dtype=np.int64)
