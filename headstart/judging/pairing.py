"""Two models on the same test items, which is what a comparison of models must be about."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.errors import HeadstartError
from headstart.metrics.predictions import Predictions

if TYPE_CHECKING:
    from headstart.data.dataset import Split
    from headstart.models.bundle import ModelBundle


class ComparisonError(HeadstartError):
    """There are no items on which the two models can be compared."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What two models predict for the same items; the arrays are (N,) and hold indices into `classes`."""

    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray
    left_out: int = 0
    """items of the test split that are not among these, as one of the two was trained on them"""

    def without(self, ids: Collection[str]) -> "Pair":
        """The items whose id is not among `ids`. ComparisonError if none is left."""
        keep = ~np.isin(self.ids, list(ids)) if ids else np.ones(len(self.ids), bool)
        if not keep.any():
            raise ComparisonError("one of the two was trained on every item of the test set")
        return replace(
            self,
            ids=self.ids[keep],
            labels=self.labels[keep],
            ours=self.ours[keep],
            theirs=self.theirs[keep],
            left_out=self.left_out + int((~keep).sum()),
        )


def stored_pair(ours: Predictions, theirs: Predictions) -> Pair | None:
    """The pair that stored predictions make; None if they are not about the same items and labels.

    ComparisonError if the two have different classes.
    """
    number_of = _numbers(theirs.classes, ours.classes)
    # Copies of a file share their id and their content, so any order among them is as good.
    first, second = np.argsort(ours.ids, kind="stable"), np.argsort(theirs.ids, kind="stable")
    labels = ours.labels[first]
    if not (
        np.array_equal(ours.ids[first], theirs.ids[second]) and np.array_equal(labels, number_of[theirs.labels[second]])
    ):
        return None
    return Pair(
        classes=ours.classes,
        ids=ours.ids[first],
        labels=labels,
        ours=ours.probabilities[first].argmax(axis=1),
        theirs=number_of[theirs.probabilities[second].argmax(axis=1)],
    )


def evaluated_pair(ours: "ModelBundle", theirs: "ModelBundle", test: "Split", classes: Sequence[str]) -> Pair:
    """The pair that both models make now on a split, whose labels are indices into `classes`.

    ComparisonError if the models have different classes.
    """
    number_of = _numbers(theirs.classes, ours.classes)
    return Pair(
        classes=ours.classes,
        ids=test.ids,
        labels=_numbers(classes, ours.classes)[test.labels],
        ours=ours.predict_probabilities(test.samples).argmax(axis=1),
        theirs=number_of[theirs.predict_probabilities(test.samples).argmax(axis=1)],
    )


def _numbers(classes: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """int (K,): where each of `classes` stands among `wanted`."""
    if sorted(classes) != sorted(wanted):
        missing = ", ".join(sorted(set(wanted) ^ set(classes))[:5])
        raise ComparisonError(f"the classes differ: only one of the two knows {missing}")
    return np.array([list(wanted).index(name) for name in classes], dtype=np.int64)
