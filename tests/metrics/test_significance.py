import numpy as np
import pytest

from headstart.metrics.significance import holm, mcnemar_p


def test_holms_p_values_are_those_computed_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_mcnemar_is_the_exact_two_sided_sign_test_of_the_items_that_only_one_gets_right():
    labels = np.zeros(100, dtype=int)
    ours, theirs = labels.copy(), labels.copy()
    theirs[:9] = 1
    ours[9:12] = 1
    ours[12:40] = theirs[12:40] = 1
    # 9 to 3: twice the tail of Binomial(12, 1/2) from 9 on.
    assert mcnemar_p(labels, ours, theirs) == pytest.approx(2 * (220 + 66 + 12 + 1) / 4096)
    assert mcnemar_p(labels, ours, theirs) == mcnemar_p(labels, theirs, ours)


def test_models_that_are_right_on_the_same_items_are_not_told_apart():
    labels = np.array([0, 1, 2, 0])
    assert mcnemar_p(labels, np.array([0, 1, 0, 1]), np.array([0, 1, 1, 2])) == 1.0
