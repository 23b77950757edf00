import numpy as np
import pytest

from headstart.data.subsets import spread_out, with_every_class


def test_every_class_keeps_its_share_of_those_that_are_taken():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    taken = spread_out(labels, 20)
    assert len(taken) == 20
    assert np.bincount(labels[taken]).tolist() == pytest.approx([12, 6, 2], abs=1)
    assert (np.diff(taken) > 0).all()
    assert spread_out(labels, 1000).tolist() == list(range(100))
    assert spread_out(labels, 0).tolist() == []


def test_a_class_that_was_left_out_gets_its_first_item():
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert with_every_class(labels, np.array([1, 4])).tolist() == [1, 3, 4]
    assert with_every_class(labels, np.array([0, 3, 5])).tolist() == [0, 3, 5]
