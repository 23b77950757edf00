import numpy as np
import pytest

from headstart.data.folds import repeated_folds, stratified_folds

LABELS = np.repeat([0, 1, 2, 3], [10, 7, 2, 1])


def test_every_sample_of_a_repeated_class_is_held_out_once_and_no_class_is_ever_without_training_samples():
    folds = list(stratified_folds(LABELS, seed=0))
    assert len(folds) == 5
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(19))
    for train, held_out in folds:
        assert sorted([*train, *held_out]) == list(range(20))
        assert set(LABELS[train]) == {0, 1, 2, 3}
        assert np.bincount(LABELS[held_out], minlength=2)[:2].tolist() in ([2, 1], [2, 2])


def test_a_seed_gives_the_same_folds_again_and_another_seed_others():
    one, again, other = (
        [held_out.tolist() for _, held_out in stratified_folds(LABELS, seed=seed)] for seed in (0, 0, 1)
    )
    assert one == again != other


def test_where_every_class_has_one_sample_nothing_is_held_out():
    assert list(stratified_folds(np.arange(5), seed=0)) == []


def test_samples_that_belong_together_are_held_out_together_and_every_class_stays_in_training():
    labels = np.repeat([0, 1, 2], 20)
    groups = np.repeat(np.arange(20), 3)
    # The only group with class 3.
    labels[groups == 19] = 3
    folds = list(stratified_folds(labels, seed=0, groups=groups))
    assert len(folds) == 5
    for train, held_out in folds:
        assert not set(groups[train]) & set(groups[held_out])
        assert set(labels[train]) == {0, 1, 2, 3}
    held_out = np.sort(np.concatenate([each for _, each in folds]))
    assert held_out.tolist() == np.flatnonzero(groups != 19).tolist()


def test_a_group_of_all_samples_is_not_held_out():
    assert list(stratified_folds(LABELS, seed=0, groups=np.zeros(len(LABELS), dtype=int))) == []


def test_groups_of_one_sample_make_the_folds_that_no_groups_make():
    alone = [held_out.tolist() for _, held_out in stratified_folds(LABELS, seed=0)]
    grouped = stratified_folds(LABELS, seed=0, groups=np.arange(len(LABELS)))
    assert [held_out.tolist() for _, held_out in grouped] == alone


@pytest.mark.parametrize(("samples", "repeats"), [(20, 4), (100, 4), (101, 3), (200, 2), (201, 1), (1000, 1)])
def test_the_fewer_samples_there_are_the_more_often_they_are_held_out(samples, repeats):
    labels = np.arange(samples) % 10
    first, every = repeated_folds(labels, seed=3)
    assert [held_out.tolist() for _, held_out in first] == [
        held_out.tolist() for _, held_out in stratified_folds(labels, seed=3)
    ]
    held_out = np.concatenate([held_out for _, held_out in every])
    assert np.bincount(held_out).tolist() == [repeats] * samples
    assert len(every) == 5 * repeats
    assert len({tuple(held_out) for _, held_out in every}) > 5 * (repeats - 1)


def test_where_nothing_can_be_held_out_repeats_hold_out_nothing_either():
    assert repeated_folds(np.arange(5), seed=0) == ([], [])
