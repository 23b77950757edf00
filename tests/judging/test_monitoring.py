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
