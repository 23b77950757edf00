"""Monitoring tells drift and loss from chance."""

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.judging.monitoring import Observed, monitor
from headstart.metrics.intervals import Interval

CLASSES = ("cat", "dog")


def observed(
    seed: int, count: int = 400, *, shift: float = 0.0, dogs: float = 0.5, right: float = 0.9, labelled: bool = False
) -> Observed:
    """Samples of two classes in eight features, of which the first tells them; `right` of the answers are."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < dogs).astype(np.int64)
    features = random.normal(shift, 1.0, (count, 8)).astype(np.float32)
    features[:, 0] += 2 * labels
    answers = np.where(random.random(count) < right, labels, 1 - labels)
    # Calibrated: an answer is right as often as it says.
    probabilities = np.where(answers[:, None] == np.arange(2), 0.9, 0.1)
    return Observed(features, probabilities, labels if labelled else None)


@pytest.fixture(scope="module")
def old() -> Observed:
    return observed(0, 1000, labelled=True)


def test_samples_of_the_same_kind_are_as_before_however_often_one_looks(old):
    found = [monitor(old, observed(seed, 300), CLASSES) for seed in range(1, 8)]

    assert [each.state for each in found] == ["as before"] * 7
    assert sum(each.auc.low <= 0.5 <= each.auc.high for each in found) >= 5
    assert sum(each.distance_p > 0.05 for each in found) >= 5


def test_samples_that_look_different_have_drifted(old):
    found = monitor(old, observed(1, shift=0.8), CLASSES)

    assert found.state == "drifted"
    assert found.sentence.startswith("drifted: ")
    assert found.auc.low > 0.7
    assert found.distance_p < 0.01


def test_a_slight_shift_is_beyond_chance_and_within_the_tolerance(old):
    new = observed(1, 2000, shift=0.12)

    assert monitor(old, new, CLASSES).state == "as before"
    assert monitor(old, new, CLASSES, tolerance=0.0).state == "drifted"


def test_the_shares_of_classes_are_estimated_without_labels(old):
    dog = monitor(old, observed(1, 1000, dogs=0.8), CLASSES).classes[1]

    assert dog.before == pytest.approx(0.5, abs=0.05)
    assert dog.now.low <= 0.8 <= dog.now.high
    assert dog.now.low > 0.7


def test_a_metric_below_the_promised_interval_is_worse_and_one_within_is_not(old):
    promised = Interval(0.9, 0.88, 0.92)

    bad = monitor(old, observed(1, right=0.75, labelled=True), CLASSES, promised=promised)
    assert bad.state == "worse"
    assert "accuracy is 0.7" in bad.sentence
    good = monitor(old, observed(1, right=0.9, labelled=True), CLASSES, promised=promised)
    assert good.state == "as before"
    assert good.measured is not None


def test_worse_is_said_before_drifted(old):
    new = observed(1, shift=0.8, right=0.5, labelled=True)

    assert monitor(old, new, CLASSES, promised=Interval(0.9, 0.88, 0.92)).state == "worse"


def numbers(seed: int, *, shift: float = 0.0, error: float = 1.0) -> Observed:
    """Numbers that a model predicts from the first of eight features."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (400, 8)).astype(np.float32)
    features[:, 0] += shift
    predicted = 10 + 3 * features[:, 0]
    outputs = np.stack([predicted, np.full(400, error), np.full(400, 2 * error)], axis=1)
    return Observed(features, outputs, predicted + random.normal(0, error, 400), task="regression")


def test_of_numbers_the_mean_is_compared_and_an_error_that_is_larger_is_worse():
    promised = Interval(0.8, 0.75, 0.85)

    same = monitor(numbers(0), numbers(1), ("value",), metric="mae", promised=promised)
    moved = monitor(numbers(0), numbers(1, shift=0.5), ("value",), metric="mae", promised=promised)
    worse = monitor(numbers(0), numbers(1, error=1.5), ("value",), metric="mae", promised=promised)
    better = monitor(numbers(0), numbers(1, error=0.5), ("value",), metric="mae", promised=promised)

    assert [each.state for each in (same, worse, better)] == ["as before", "worse", "as before"]
    assert [each.name for each in same.classes] == ["mean prediction"]
    assert moved.classes[0].now.value == pytest.approx(11.5, abs=0.3)
    assert "the mean prediction is 11." in moved.sentence
    assert "MAE is 1.2" in worse.sentence


def several(seed: int, shares: tuple[float, float]) -> Observed:
    """Two labels that do not exclude one another, a third of which nobody knows, by calibrated probabilities."""
    random = np.random.default_rng(seed)
    labels = (random.random((600, 2)) < shares).astype(np.int8)
    chances = np.where(random.random((600, 2)) < 0.9, labels, 1 - labels) * 0.8 + 0.1
    labels[random.random((600, 2)) < 0.3] = -1
    outputs = np.stack([chances, np.full_like(chances, 0.5)], axis=2)
    features = random.normal(0, 1, (600, 8)).astype(np.float32)
    return Observed(features, outputs, labels, task="multi_label")


def test_of_several_labels_the_mean_probability_of_each_is_compared():
    old, new = several(0, (0.5, 0.5)), several(1, (0.5, 0.8))

    found = monitor(old, new, CLASSES, metric="mean_average_precision")

    cat, dog = found.classes
    assert (cat.name, dog.name) == CLASSES
    assert cat.now.low <= cat.before <= cat.now.high
    assert dog.now.low > dog.before
    assert dog.now.value == pytest.approx(new.outputs[:, 1, 0].mean())
    assert "the mean probability of 'dog' is 0.6" in found.sentence
    assert found.measured.value > 0.7


def test_what_is_told_apart_without_an_error_is_drifted_and_no_certainty(old):
    found = monitor(old, observed(1, 60, shift=30.0), CLASSES)

    assert found.auc.value == 1.0
    assert found.auc.low < 1.0
    assert found.state == "drifted"


def test_the_same_samples_give_the_same_answer(old):
    assert monitor(old, observed(1), CLASSES).to_dict() == monitor(old, observed(1), CLASSES).to_dict()


@pytest.mark.parametrize(("count", "tolerance", "said"), [(10, 0.1, "too few"), (50, 0.5, "tolerance is 0.5")])
def test_too_few_samples_and_a_tolerance_out_of_range_are_refused(old, count, tolerance, said):
    with pytest.raises(InputError, match=said):
        monitor(old, observed(1, count), CLASSES, tolerance=tolerance)
