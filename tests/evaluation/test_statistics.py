import numpy as np
import pytest

from headstart.errors import InputError
from headstart.evaluation.metrics import METRICS, count
from headstart.evaluation.statistics import Interval, bootstrap_interval, mcnemar_p, paired_bootstrap_gain, verdict


def predictions_with_accuracy(labels, share, K, generator):
    wrong = (labels + generator.integers(1, K, size=len(labels))) % K
    return np.where(generator.random(len(labels)) < share, labels, wrong)


def test_a_95_percent_interval_of_the_accuracy_covers_the_truth_in_95_percent_of_draws():
    generator = np.random.default_rng(2026)
    covered = 0
    for draw in range(400):
        labels = generator.integers(0, 4, size=400)
        predictions = predictions_with_accuracy(labels, 0.8, 4, generator)
        interval = bootstrap_interval("accuracy", labels, predictions, 4, resamples=1000, seed=draw)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.93 <= covered / 400 <= 0.97


@pytest.mark.parametrize("name", METRICS)
def test_drawing_cells_gives_the_interval_that_drawing_items_gives(name):
    generator = np.random.default_rng(3)
    labels = generator.choice(5, p=[0.5, 0.3, 0.15, 0.04, 0.01], size=150)
    predictions = predictions_with_accuracy(labels, 0.7, 5, generator)
    fast = bootstrap_interval(name, labels, predictions, 5, resamples=4000)
    scores = []
    for _ in range(4000):
        items = generator.integers(0, 150, size=150)
        scores.append(METRICS[name](count(labels[items], predictions[items], 5)))
    assert [fast.low, fast.high] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("name", METRICS)
def test_the_estimate_is_the_metric_itself_and_lies_within_its_interval(name):
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 10, size=500)
    predictions = predictions_with_accuracy(labels, 0.6, 10, generator)
    interval = bootstrap_interval(name, labels, predictions, 10)
    assert interval.value == METRICS[name](count(labels, predictions, 10))
    assert interval.low < interval.value < interval.high


def test_more_confidence_needs_a_wider_interval():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, size=200)
    predictions = predictions_with_accuracy(labels, 0.7, 3, generator)
    narrow, wide = (
        bootstrap_interval("accuracy", labels, predictions, 3, confidence=confidence) for confidence in (0.8, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairing_narrows_the_gain_of_models_that_err_on_the_same_items():
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 5, size=600)
    baseline = predictions_with_accuracy(labels, 0.75, 5, generator)
    better = np.where(generator.random(600) < 0.1, labels, baseline)
    paired = paired_bootstrap_gain("accuracy", labels, better, baseline, 5)
    alone = [bootstrap_interval("accuracy", labels, each, 5) for each in (better, baseline)]
    unpaired_width = np.hypot(*(each.high - each.low for each in alone))
    assert paired.high - paired.low < unpaired_width / 2
    assert paired.value == pytest.approx(alone[0].value - alone[1].value)


@pytest.mark.parametrize("name", METRICS)
def test_identical_predictions_gain_exactly_nothing_and_are_no_evidence(name):
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 7, size=300)
    predictions = predictions_with_accuracy(labels, 0.5, 7, generator)
    gain = paired_bootstrap_gain(name, labels, predictions, predictions.copy(), 7)
    assert gain == Interval(0.0, 0.0, 0.0)
    assert verdict(gain) == "no evidence"


def test_swapping_model_and_baseline_turns_the_gain_around():
    generator = np.random.default_rng(8)
    labels = generator.integers(0, 4, size=300)
    one, other = (predictions_with_accuracy(labels, share, 4, generator) for share in (0.9, 0.6))
    forth = paired_bootstrap_gain("macro_f1", labels, one, other, 4)
    back = paired_bootstrap_gain("macro_f1", labels, other, one, 4)
    assert [-back.value, -back.high, -back.low] == pytest.approx([forth.value, forth.low, forth.high], abs=0.01)
    assert verdict(forth) == "helped"
    assert verdict(back) == "hurt"


def test_one_seed_gives_one_interval_however_the_work_is_cut(monkeypatch):
    generator = np.random.default_rng(9)
    labels = generator.integers(0, 30, size=500)
    predictions = predictions_with_accuracy(labels, 0.5, 30, generator)
    whole = bootstrap_interval("macro_f1", labels, predictions, 30, seed=1)
    assert whole != bootstrap_interval("macro_f1", labels, predictions, 30, seed=2)
    monkeypatch.setattr("headstart.evaluation.statistics._CHUNK", 5000)
    assert whole == bootstrap_interval("macro_f1", labels, predictions, 30, seed=1)


def test_a_model_that_is_always_wrong_scores_zero_and_one_that_is_always_right_scores_one():
    labels = np.arange(20) % 4
    assert bootstrap_interval("macro_f1", labels, (labels + 1) % 4, 4) == Interval(0.0, 0.0, 0.0)
    assert bootstrap_interval("macro_f1", labels, labels, 4) == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "min_gain", "expected"),
    [
        (0.01, 0.03, 0.0, "helped"),
        (0.0, 0.03, 0.0, "no evidence"),
        (-0.01, 0.03, 0.0, "no evidence"),
        (-0.03, 0.0, 0.0, "no evidence"),
        (-0.03, -0.01, 0.0, "hurt"),
        (0.01, 0.03, 0.01, "no evidence"),
        (0.02, 0.03, 0.01, "helped"),
        (-0.03, -0.01, 0.05, "hurt"),
    ],
)
def test_the_verdict_follows_the_bounds_of_the_interval(low, high, min_gain, expected):
    assert verdict(Interval((low + high) / 2, low, high), min_gain) == expected


def test_a_negative_least_gain_is_refused():
    with pytest.raises(InputError, match="min_gain"):
        verdict(Interval(0.0, 0.0, 0.0), -0.1)


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
