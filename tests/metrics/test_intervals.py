import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import precision_recall_fscore_support

from headstart.errors import InputError
from headstart.metrics.classification import classification_metrics
from headstart.metrics.counts import count
from headstart.metrics.intervals import (
    Interval,
    bootstrap_interval,
    class_intervals,
    holm,
    mcnemar_p,
    metric_intervals,
    paired_bootstrap_gain,
    simultaneous_gains,
    verdict,
    wilson_interval,
)
from headstart.metrics.metric import METRICS


def predictions_with_accuracy(labels, share, K, generator):
    wrong = (labels + generator.integers(1, K, size=len(labels))) % K
    return np.where(generator.random(len(labels)) < share, labels, wrong)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_95_percent_intervals_of_scores_and_gains_hold_the_truth_in_95_percent_of_draws(name):
    prior = (0.5, 0.25, 0.15, 0.1)
    generator = np.random.default_rng(2026)
    # Both are right more often on the same items than by chance, as models are: .85 and .78 of all.
    cells = np.array([(k, a, b) for k in range(4) for a in range(4) for b in range(4)])
    right = cells[:, 1:] == cells[:, :1]
    share = np.select(
        [right.all(axis=1), right[:, 0], right[:, 1]], [0.72, 0.13 / 3, 0.06 / 3], default=0.09 / 9
    ) * np.take(prior, cells[:, 0])
    flat = [np.repeat(cells[:, i], np.round(share * 1e6).astype(int)) for i in range(3)]
    truths = [METRICS[name].of(count(flat[0], flat[i], 4)) for i in (1, 2)]
    score_holds = gain_holds = 0
    for draw in range(1000):
        labels, ours, theirs = cells[generator.choice(len(cells), size=400, p=share / share.sum())].T
        score = bootstrap_interval(name, labels, ours, 4, resamples=200, seed=draw)
        gain = paired_bootstrap_gain(name, labels, ours, theirs, 4, resamples=200, seed=draw)
        score_holds += score.low <= truths[0] <= score.high
        gain_holds += gain.low <= truths[0] - truths[1] <= gain.high
    assert 0.93 <= score_holds / 1000 <= 0.97
    assert 0.93 <= gain_holds / 1000 <= 0.97


def test_of_five_gains_that_are_nothing_none_is_called_one_in_95_percent_of_draws_only_with_the_correction():
    generator = np.random.default_rng(7)
    pairs = [(i, 5) for i in range(5)]
    corrected = alone = 0
    for draw in range(200):
        labels = generator.integers(0, 3, size=200)
        predictions = [predictions_with_accuracy(labels, 0.8, 3, generator) for _ in range(6)]
        gains = simultaneous_gains("accuracy", labels, predictions, pairs, 3, resamples=200, seed=draw)
        corrected += all(verdict(gain) == "no evidence" for gain in gains)
        single = [
            paired_bootstrap_gain("accuracy", labels, each, predictions[5], 3, resamples=200, seed=draw)
            for each in predictions[:5]
        ]
        alone += all(verdict(gain) == "no evidence" for gain in single)
    assert corrected / 200 >= 0.93
    assert alone / 200 < 0.9


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
    assert set(found) == {*METRICS, "ece"} - {"macro_recall"}
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
    monkeypatch.setattr("headstart.metrics.intervals._CHUNK", 1000)
    assert metric_intervals(labels, probabilities, resamples=100)["ece"] == whole


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


def test_an_accuracy_has_wilsons_interval():
    labels = np.zeros(40, dtype=int)
    predictions = np.where(np.arange(40) < 37, 0, 1)
    found = bootstrap_interval("accuracy", labels, predictions, 2)
    expected = binomtest(37, 40).proportion_ci(0.95, method="wilson")
    assert [found.value, found.low, found.high] == pytest.approx([37 / 40, expected.low, expected.high], abs=1e-9)


def test_of_no_items_nothing_is_known():
    assert wilson_interval(0, 0) == Interval(0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", METRICS)
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
    monkeypatch.setattr("headstart.metrics.intervals._CHUNK", 5000)
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


def test_a_gain_that_one_item_makes_is_no_evidence_and_its_interval_is_wider_than_that_item():
    labels = np.zeros(100, dtype=int)
    theirs = labels.copy()
    theirs[0] = 1
    gain = paired_bootstrap_gain("accuracy", labels, labels, theirs, 2)
    assert gain.value == pytest.approx(0.01)
    assert gain.low < -0.01
    assert gain.high > 0.03


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


def test_holms_p_values_are_those_computed_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


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
