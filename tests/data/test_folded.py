"""Another part of the labels held out: which it is, and that it reads as any data set does."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.folded import FoldedDataset, further_folds
from headstart.data.labelled import LabelledDataset

Pack = Callable[..., Dataset]


def test_with_the_validation_split_every_label_is_held_out_once(folder: Path, pack: Pack) -> None:
    dataset = pack(folder)
    folds = list(further_folds(dataset))
    assert len(folds) > 1
    held_out = [dataset.split("val").ids.tolist(), *(fold.split("val").ids.tolist() for fold in folds)]
    every = LabelledDataset(dataset).split("train")
    assert sorted(chain(*held_out)) == sorted(every.ids.tolist())
    for fold in folds:
        train, val = fold.split("train"), fold.split("val")
        assert sorted([*train.ids, *val.ids]) == sorted(every.ids)
        assert set(train.labels) == set(every.labels)
        assert abs(len(val.ids) - dataset.counts["val"]) <= len(dataset.classes)
        assert fold.counts == {"train": len(train.ids), "val": len(val.ids), "test": dataset.counts["test"]}
        assert fold.split("test").ids.tolist() == dataset.split("test").ids.tolist()


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_its_samples_are_those_of_the_labels(folder: Path, pack: Pack, store: str) -> None:
    dataset = pack(folder, store=store)
    every = LabelledDataset(dataset).split("train")
    by_id = dict(zip(every.ids.tolist(), every.samples[:], strict=True))
    for fold in further_folds(dataset):
        for name in ("train", "val"):
            split = fold.split(name)
            assert np.array_equal(split.samples[:], [by_id[each] for each in split.ids])
            assert np.array_equal(fold.samples(name)[np.array([1, 0])], split.samples[:][[1, 0]])
            assert np.array_equal(split.samples[-1], split.samples[:][-1])
            assert np.asarray(split.samples).shape == split.samples.shape


def test_items_that_belong_together_are_held_out_together(folder: Path, pack: Pack, monkeypatch) -> None:
    dataset = pack(folder)
    split = Dataset.split

    def paired(self: Dataset, name: str):
        found = split(self, name)
        pairs = np.array([f"{name} {label} {number // 4}" for number, label in enumerate(found.labels)])
        return replace(found, groups=pairs)

    monkeypatch.setattr(Dataset, "split", paired)
    folds = list(further_folds(dataset))
    assert folds
    for fold in folds:
        assert not set(fold.split("val").groups) & set(fold.split("train").groups)


def test_work_on_one_fold_is_not_mistaken_for_work_on_another(folder: Path, pack: Pack) -> None:
    dataset = pack(folder)
    every = [dataset, LabelledDataset(dataset), *further_folds(dataset)]
    for name in ("train", "val"):
        assert len({each.split_digest(name) for each in every}) == len(every)
    # What a model has learned from, and is never judged on, is still the data set's training and validation samples.
    assert all(each.digests == dataset.digests for each in every)


def test_a_fold_without_which_a_class_has_no_label_is_none(folder: Path, pack: Pack) -> None:
    dataset = pack(folder)
    labels = LabelledDataset(dataset).split("train").labels
    counts = dataset.counts
    # One class has all of its labels in the training split, in one fold.
    held_out = labels == 0
    assert set(labels[~held_out]) != set(labels)
    assert FoldedDataset(dataset, held_out).counts["val"] == int(held_out.sum())
    for fold in further_folds(dataset):
        assert set(fold.split("train").labels) == set(labels)
    assert counts == dataset.counts
