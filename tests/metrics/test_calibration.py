import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from headstart.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    smoothed_losses,
)


def drawn(count: int, temperature: float, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=2.0, size=(count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(truth, axis=1)])
    return (truth * temperature).astype(np.float32), labels


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    rows = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -rows[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 3.0, 10.0])
def test_the_temperature_that_the_labels_were_drawn_with_is_found(temperature):
    assert fit_temperature(*drawn(5000, temperature)) == pytest.approx(temperature, rel=0.08)


def test_it_is_the_minimum_of_the_likelihood_that_a_search_over_all_finds():
    logits, labels = drawn(3000, 2.0)
    grid = np.geomspace(0.05, 20, 2000)
    best = grid[np.argmin([loss(logits, labels, temperature) for temperature in grid])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=0.01)


def test_an_overconfident_models_probabilities_become_truer_also_on_other_samples_and_its_answers_stay():
    logits, labels = drawn(1000, 4.0)
    temperature = fit_temperature(logits, labels)
    others, truth = drawn(4000, 4.0, seed=1)
    before, after = softmax(others, axis=1), softmax(others / temperature, axis=1)
    assert expected_calibration_error(truth, after) < 0.3 * expected_calibration_error(truth, before)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_the_validation_samples_are_never_less_likely_than_without_it(count, seed):
    logits, labels = drawn(count, 1.5, seed=seed)
    temperature = fit_temperature(logits, labels)
    assert 0.05 <= temperature <= 20 * max(1, logits.std(axis=1).mean())
    assert loss(logits, labels, temperature) <= loss(logits, labels, 1.0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_samples_that_are_all_right_do_not_ask_for_certainty(scale):
    labels = np.arange(20) % 4
    logits = scale * np.eye(4)[labels]
    confidence = softmax(logits / fit_temperature(logits, labels), axis=1).max(axis=1)
    # One more sample of any label among twenty leaves 1/21 · 3/4 for the other classes; a model that was surer than
    # that by itself stays as it is.
    allowed = max(1 - 0.75 / 21, softmax(logits, axis=1).max())
    assert confidence.max() <= allowed + 1e-3


def test_without_a_sample_or_a_difference_nothing_is_changed():
    assert fit_temperature(np.empty((0, 3), dtype=np.float32), np.empty(0, dtype=np.int64)) == 1.0
    assert fit_temperature(np.ones((10, 3)), np.zeros(10, dtype=np.int64)) == 1.0


def test_logits_of_any_size_are_taken_without_overflow():
    logits, labels = drawn(200, 1.0)
    with np.errstate(all="raise", under="ignore"):
        assert fit_temperature(logits * 1e6, labels) == pytest.approx(1e6 * fit_temperature(logits, labels), rel=0.01)
        assert fit_temperature(logits + 1e6, labels) == pytest.approx(fit_temperature(logits, labels), rel=0.01)


def test_whatever_the_temperature_every_prediction_stays_as_it_is_in_float32():
    logits = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32) * 0.01
    # Labels that the logits are against: the flatter, the better.
    temperature = fit_temperature(logits, logits.argmin(axis=1))
    assert temperature == pytest.approx(20, rel=1e-3)
    flattened = softmax(logits / np.float32(temperature), axis=1)
    assert np.array_equal(flattened.argmax(axis=1), logits.argmax(axis=1))


def test_logits_of_hundreds_that_are_often_wrong_become_no_worse_than_a_guess():
    logits, labels = drawn(20, 1.0)
    wrong = 500 * logits
    assert loss(wrong, labels, 20.0) > np.log(logits.shape[1]) > loss(wrong, labels, fit_temperature(wrong, labels))


def test_the_logits_are_left_as_they_are():
    logits, labels = drawn(50, 2.0)
    before = logits.copy()
    fit_temperature(logits.astype(np.float64), labels)
    fit_temperature(logits, labels)
    assert np.array_equal(logits, before)


def loss_at_best(logits: np.ndarray, labels: np.ndarray) -> float:
    return loss(logits, labels, fit_temperature(logits, labels))


def test_to_be_right_on_a_few_samples_and_surer_than_any_temperature_can_mend_is_no_smaller_smoothed_loss():
    labels = np.arange(6) % 3
    modest = 4.0 * np.eye(3)[labels]
    assert loss_at_best(1000 * modest, labels) <= loss_at_best(modest, labels)
    assert smoothed_losses(1000 * modest, labels).mean() > smoothed_losses(modest, labels).mean()
    # Of many samples it is the log loss.
    logits, labels = drawn(5000, 2.0)
    assert smoothed_losses(logits, labels).mean() == pytest.approx(loss_at_best(logits, labels), abs=0.01)
