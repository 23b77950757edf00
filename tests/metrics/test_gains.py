import numpy as np
import pytest

from headstart.judging.verdict import verdict
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.counts import count
from headstart.metrics.gains import Pair, paired_bootstrap_gain, simultaneous_gains
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metrics_of
from tests.metrics.draws import predictions_with_accuracy


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
    pairs = [Pair(i, 5) for i in range(5)]
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


@pytest.mark.parametrize("name", metrics_of("single_label"))
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


def test_a_gain_that_one_item_makes_is_no_evidence_and_its_interval_is_wider_than_that_item():
    labels = np.zeros(100, dtype=int)
    theirs = labels.copy()
    theirs[0] = 1
    gain = paired_bootstrap_gain("accuracy", labels, labels, theirs, 2)
    assert gain.value == pytest.approx(0.01)
    assert gain.low < -0.01
    assert gain.high > 0.03


def test_a_variance_that_few_trainings_tell_widens_as_students_t_does():
    """The fewer trainings, the wider; with a known variance as by the normal distribution."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 2000)
    ours, theirs = (np.where(generator.random(2000) < share, labels, 1 - labels) for share in (0.9, 0.8))

    def half(freedom):
        (gain,) = simultaneous_gains("accuracy", labels, [ours, theirs], [Pair(0, 1, 0.05**2, freedom)], 2)
        return gain.high - gain.value

    assert half(np.inf) == pytest.approx(1.96 * np.hypot(0.05, 0.0115), rel=0.05)
    assert half(4) / half(np.inf) == pytest.approx(2.78 / 1.96, rel=0.05)
    assert half(2) / half(np.inf) == pytest.approx(4.30 / 1.96, rel=0.1)
