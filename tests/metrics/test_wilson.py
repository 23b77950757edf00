import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import class_intervals, wilson_interval
from tests.metrics.draws import predictions_with_accuracy


def test_the_interval_of_a_class_holds_its_true_f1_in_95_percent_of_draws():
    generator = np.random.default_rng(13)
    held = 0
    for _ in range(1000):
        labels = generator.choice(3, p=[0.2, 0.4, 0.4], size=300)
        predictions = predictions_with_accuracy(labels, 0.8, 3, generator)
        interval = class_intervals(labels, predictions, ("a", "b", "c"))[0].f1
        # Of 100 items, 16 are hits of the class, 4 are its others and 8 are others' taken for it.
        held += interval.low <= 2 * 16 / (2 * 16 + 4 + 8) <= interval.high
    assert 0.93 <= held / 1000 <= 0.97


def test_the_figures_of_a_class_are_those_of_scikit_learn():
    generator = np.random.default_rng(14)
    labels = generator.integers(0, 3, size=100)
    predictions = predictions_with_accuracy(labels, 0.7, 3, generator)
    expected = precision_recall_fscore_support(labels, predictions)
    found = class_intervals(labels, predictions, ("a", "b", "c"))
    assert [each.precision.value for each in found] == pytest.approx(expected[0])
    assert [each.recall.value for each in found] == pytest.approx(expected[1])
    assert [each.f1.value for each in found] == pytest.approx(expected[2])
    assert [each.support for each in found] == expected[3].tolist()


def test_of_no_items_nothing_is_known():
    assert wilson_interval(0, 0) == Interval(0.0, 0.0, 1.0)
