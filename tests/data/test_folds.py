import numpy as np

from headstart.data.folds import stratified_folds

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
