"""Another part of the labels held out: the data set's labelled samples, of which a fold stands for validation."""

from collections.abc import Iterator

import numpy as np

from headstart.data.chosen import ChosenSamples
from headstart.data.dataset import Dataset, Samples, Split
from headstart.data.labelled import LabelledDataset
from headstart.data.several import one_each
from headstart.metrics.tally import is_of_classes
from headstart.storage.digests import json_digest


class FoldedDataset(Dataset):
    """A data set whose validation split is another part of its labels, and whose training split is all others.

    `digests` stay those of the data set itself: they say which samples a model has learned from and which it has not.
    """

    def __init__(self, dataset: Dataset, held_out: np.ndarray) -> None:
        """`held_out`: bool (N,), which of the labelled samples validate, training samples first."""
        super().__init__(dataset.path, dataset.manifest)
        self._labelled = LabelledDataset(dataset)
        self.rows = {"train": np.flatnonzero(~held_out), "val": np.flatnonzero(held_out)}
        """int: the positions of each split's samples among the labelled ones"""

    @property
    def counts(self) -> dict[str, int]:
        return {**self._labelled.counts, **{name: len(rows) for name, rows in self.rows.items()}}

    def split(self, name: str) -> Split:
        if name not in self.rows:
            return self._labelled.split(name)
        split, rows = self._labelled.split("train"), self.rows[name]
        return Split(
            name=name,
            store=split.store,
            samples=ChosenSamples(split.samples, rows),
            labels=split.labels[rows],
            ids=split.ids[rows],
            paths=split.paths[rows],
            groups=split.groups[rows],
        )

    def samples(self, split: str) -> Samples:
        if split not in self.rows:
            return self._labelled.samples(split)
        return ChosenSamples(self._labelled.samples("train"), self.rows[split])

    def split_digest(self, name: str) -> str:
        if name not in self.rows:
            return self._labelled.split_digest(name)
        return f"sha256:{json_digest([self._labelled.split_digest('train'), self.rows[name].tolist()])}"

    @property
    def digests(self) -> dict[str, str]:
        return self._labelled.digests


def further_folds(dataset: Dataset) -> Iterator[FoldedDataset]:
    """Yield the data set with each part of its training split held out that is as large as its validation split, or so,
    so that all labels are held out once; none where a class would lose all of its training samples.

    Samples that belong together stay together, and classes are spread evenly. Which fold a sample is in follows from
    its content alone.
    """
    train, val = (dataset.split(name) for name in ("train", "val"))
    labels = np.concatenate([train.labels, val.labels])
    counts = {"train": len(train.labels), "val": len(val.labels)}
    if not counts["train"] or not counts["val"]:
        return
    folds = max(1, round(counts["train"] / counts["val"]))
    names = np.where(train.groups == "", train.ids, train.groups)
    # The units of each class in the order of their names, which are digests or as arbitrary as these.
    units, first = np.unique(names, return_index=True)
    order = np.argsort(one_each(train.labels)[first], kind="stable")
    fold_of_unit = np.empty(len(units), dtype=np.int64)
    fold_of_unit[order] = np.arange(len(units)) % folds
    fold_of = fold_of_unit[np.searchsorted(units, names)]
    for fold in range(folds):
        held_out = np.concatenate([fold_of == fold, np.zeros(counts["val"], dtype=bool)])
        if not is_of_classes(labels) or set(labels[~held_out]) == set(labels):
            yield FoldedDataset(dataset, held_out)
