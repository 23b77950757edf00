import numpy as np
import pytest

from headstart.judging.reliability import hardest, reliability_bins, selective_prediction
from headstart.metrics.calibration import expected_calibration_error, fit_temperature


def sure(confidence, right):
    """Two-class probabilities with these confidences, and labels that make them right or wrong."""
    confidence = np.asarray(confidence)
    return np.where(right, 0, 1), np.stack([confidence, 1 - confidence], axis=1)


def test_the_calibration_error_is_the_one_computed_by_hand():
    # Bins of 1/15: 0.95, 0.99 in (14/15, 1], two of two right; 0.7 in (10/15, 11/15], one of two; 0.55 in (8/15, 9/15].
    labels, probabilities = sure([0.95, 0.99, 0.7, 0.7, 0.55], [True, True, True, False, False])
    by_hand = 2 / 5 * abs(1 - 0.97) + 2 / 5 * abs(0.5 - 0.7) + 1 / 5 * abs(0 - 0.55)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(by_hand, abs=1e-6)


def test_the_calibration_error_agrees_with_a_loop_over_the_bins():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(4, 0.6), size=500)
    labels = generator.integers(0, 4, size=500)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected, abs=1e-6)
    bins = reliability_bins(labels, probabilities)
    drawn = sum(each.items / 500 * abs(each.accuracy.value - each.confidence) for each in bins)
    assert drawn == pytest.approx(expected, abs=1e-6)
    assert sum(each.items for each in bins) == 500


def test_a_temperature_never_changes_a_prediction_and_lowers_the_error_of_an_overconfident_model():
    generator = np.random.default_rng(1)
    truth = generator.normal(scale=1.5, size=(3000, 6))
    chances = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    labels = (generator.random((3000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    logits = 5 * truth

    def softmax(values):
        exponents = np.exp(values - values.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    temperature = fit_temperature(logits[:1000], labels[:1000])
    before, after = softmax(logits[1000:]), softmax(logits[1000:] / temperature)
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))
    errors = [expected_calibration_error(labels[1000:], each) for each in (before, after)]
    assert errors[0] > 0.2
    assert errors[1] < 0.05


def test_the_risk_at_a_coverage_is_the_share_of_errors_among_the_most_confident():
    labels, probabilities = sure([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    found = selective_prediction(labels, probabilities)
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The best order puts both errors last: risks 0, 0, 1/3, 2/4.
    assert found.oracle == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert found.risk_at(0.5) == 1 / 2
    assert found.coverage_at(0.4) == 0.75
    assert found.coverage_at(0.0) == 0.25


def test_items_of_equal_confidence_are_answered_together_so_their_order_means_nothing():
    labels, probabilities = sure([0.9, 0.9, 0.9, 0.6], [True, False, True, True])
    forth, back = (
        selective_prediction(labels[order], probabilities[order]) for order in (np.arange(4), np.arange(4)[::-1])
    )
    assert forth.coverage.tolist() == [0.75, 1.0]
    assert forth.aurc == back.aurc == pytest.approx((3 * (1 / 3) + 1 / 4) / 4)


def test_a_model_that_knows_its_errors_has_the_least_area():
    labels, probabilities = sure([0.9, 0.8, 0.6, 0.55], [True, True, False, False])
    found = selective_prediction(labels, probabilities)
    assert found.aurc == pytest.approx(found.oracle)


def test_the_hardest_items_are_those_whose_label_was_least_expected():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert hardest(np.array([0, 0, 0]), probabilities, 2).tolist() == [1, 2]
