import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from headstart.metrics.bootstrap import bootstrap_interval, metric_intervals
from headstart.metrics.classification import classification_metrics
from headstart.metrics.counts import count
from headstart.metrics.metric import METRICS, metrics_of
from tests.metrics.draws import predictions_with_accuracy


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_precision", "macro_f1"])
def test_the_interval_is_the_bca_bootstrap_that_scipy_makes_by_drawing_items(name):
    generator = np.random.default_rng(3)
    labels = generator.choice(4, p=[0.5, 0.3, 0.15, 0.05], size=200)
    predictions = predictions_with_accuracy(labels, 0.7, 4, generator)
    fast = bootstrap_interval(name, labels, predictions, 4, resamples=10_000)
    drawn = bootstrap(
        (labels, predictions),
        lambda truth, predicted: float(METRICS[name].of(count(truth, predicted, 4))),
        paired=True, vectorized=False, method="BCa", n_resamples=4000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert [fast.low, fast.high] == pytest.approx([drawn.low, drawn.high], abs=0.012)


def test_every_metric_and_the_calibration_error_have_intervals_around_them():
    generator = np.random.default_rng(11)
    probabilities = generator.dirichlet(np.full(3, 0.4), size=300)
    labels = (generator.random((300, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    found = metric_intervals(labels, probabilities, resamples=300)
    assert set(found) == {*metrics_of("single_label"), "ece"} - {"macro_recall"}
    expected = classification_metrics(labels, probabilities, ("a", "b", "c"))
    for name, interval in found.items():
        assert interval.value == pytest.approx(expected[name])
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert found["macro_f1"] == bootstrap_interval("macro_f1", labels, probabilities.argmax(axis=1), 3, resamples=300)


def test_the_calibration_errors_interval_does_not_depend_on_how_the_draws_are_cut(monkeypatch):
    generator = np.random.default_rng(12)
    probabilities = generator.dirichlet(np.full(3, 0.4), size=100)
    labels = generator.integers(0, 3, size=100)
    whole = metric_intervals(labels, probabilities, resamples=100)["ece"]
    monkeypatch.setattr("headstart.metrics.tally.CHUNK", 1000)
    assert metric_intervals(labels, probabilities, resamples=100)["ece"] == whole


def test_an_accuracy_has_wilsons_interval():
    labels = np.zeros(40, dtype=int)
    predictions = np.where(np.arange(40) < 37, 0, 1)
    found = bootstrap_interval("accuracy", labels, predictions, 2)
    expected = binomtest(37, 40).proportion_ci(0.95, method="wilson")
    assert [found.value, found.low, found.high] == pytest.approx([37 / 40, expected.low, expected.high], abs=1e-9)


@pytest.mark.parametrize("name", metrics_of("single_label"))
def test_the_estimate_is_the_metric_itself_and_lies_within_its_interval(name):
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 10, size=500)
    predictions = predictions_with_accuracy(labels, 0.6, 10, generator)
    interval = bootstrap_interval(name, labels, predictions, 10)
    assert interval.value == METRICS[name].of(count(labels, predictions, 10))
    assert interval.low < interval.value < interval.high


def test_more_confidence_needs_a_wider_interval():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, size=200)
    predictions = predictions_with_accuracy(labels, 0.7, 3, generator)
    narrow, wide = (
        bootstrap_interval("accuracy", labels, predictions, 3, confidence=confidence) for confidence in (0.8, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_seed_gives_one_interval_however_the_work_is_cut(monkeypatch):
    generator = np.random.default_rng(9)
    labels = generator.integers(0, 30, size=500)
    predictions = predictions_with_accuracy(labels, 0.5, 30, generator)
    whole = bootstrap_interval("macro_f1", labels, predictions, 30, seed=1)
    assert whole != bootstrap_interval("macro_f1", labels, predictions, 30, seed=2)
    monkeypatch.setattr("headstart.metrics.tally.CHUNK", 5000)
    assert whole == bootstrap_interval("macro_f1", labels, predictions, 30, seed=1)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_no_mistake_in_twenty_items_is_not_certainty_and_neither_is_no_hit(name):
    labels = np.arange(20) % 4
    wrong = bootstrap_interval(name, labels, (labels + 1) % 4, 4)
    right = bootstrap_interval(name, labels, labels, 4)
    assert (wrong.value, wrong.low, right.value, right.high) == (0.0, 0.0, 1.0, 1.0)
    # Wilson's bound for 20 of 20: 1 / (1 + z² / 20).
    assert right.low == pytest.approx(1 / (1 + 1.959964**2 / 20), abs=1e-6)
    assert wrong.high == pytest.approx(1 - right.low)
