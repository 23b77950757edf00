import numpy as np
import pytest

from headstart.metrics.bootstrap import bootstrap_interval, metric_intervals
from headstart.metrics.gains import Pair, paired_bootstrap_gain, simultaneous_gains
from headstart.metrics.groups import count_groups, group_numbers
from headstart.metrics.intervals import Interval
from headstart.metrics.significance import mcnemar_p
from headstart.metrics.wilson import class_intervals, share_interval, wilson_interval

GROUPS, EACH = 20, 10


def alike(generator, *accuracies):
    """Labels, predictions and groups of 20 speakers, all of whose 10 recordings are right or wrong together."""
    labels = generator.integers(0, 3, size=GROUPS)
    wrong = (labels + generator.integers(1, 3, size=GROUPS)) % 3
    predictions = [np.where(generator.random(GROUPS) < share, labels, wrong) for share in accuracies]
    return [np.repeat(each, EACH) for each in (labels, *predictions, np.arange(GROUPS))]


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_intervals_hold_the_truth_where_the_items_of_a_group_all_say_the_same_and_those_of_items_alone_do_not(name):
    generator = np.random.default_rng(5)
    held = np.zeros((2, 2))
    for draw in range(150):
        labels, ours, theirs, groups = alike(generator, 0.8, 0.7)
        for row, known in enumerate((groups, None)):
            score = bootstrap_interval(name, labels, ours, 3, resamples=200, seed=draw, groups=known)
            gain = paired_bootstrap_gain(name, labels, ours, theirs, 3, resamples=200, seed=draw, groups=known)
            held[row] += score.low <= 0.8 <= score.high, gain.low <= 0.1 <= gain.high
    assert (held[0] / 150 >= 0.9).all()
    assert (held[1] / 150 < 0.7).all()


def test_groups_of_one_item_give_the_figures_of_items_to_the_last_digit():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(4, 0.5), size=200)
    labels, ours, theirs = generator.integers(0, 4, size=200), probabilities.argmax(1), generator.integers(0, 4, 200)
    # Names that are all different, and items that have none.
    groups = np.array(["" if n % 3 else f"speaker {n}" for n in range(200)])
    pairs = [Pair(0, 1), Pair(2, 1, 0.001)]

    def figures(known):
        return (
            metric_intervals(labels, probabilities, resamples=200, groups=known),
            simultaneous_gains("macro_f1", labels, [ours, theirs, labels], pairs, 4, resamples=200, groups=known),
            class_intervals(labels, ours, tuple("abcd"), groups=known),
            mcnemar_p(labels, ours, theirs, known),
        )

    assert count_groups(groups) is None
    assert figures(groups) == figures(None)


def test_every_metric_is_less_sure_by_groups_and_the_estimate_is_the_same():
    generator = np.random.default_rng(2)
    labels, ours, groups = alike(generator, 0.7)
    probabilities = np.where(np.eye(3)[ours] == 1, 0.8, 0.1)
    alone, together = (metric_intervals(labels, probabilities, resamples=300, groups=each) for each in (None, groups))
    for name, interval in alone.items():
        assert together[name].value == interval.value
        assert together[name].high - together[name].low > 1.5 * (interval.high - interval.low)
    weakest = [class_intervals(labels, ours, tuple("abc"), groups=each)[0].f1 for each in (None, groups)]
    assert weakest[1].low < weakest[0].low <= weakest[0].high < weakest[1].high


def test_a_share_of_items_that_come_in_equal_pairs_is_as_sure_as_that_of_half_as_many():
    right = np.random.default_rng(3).random(400) < 0.8
    pairs = share_interval(np.repeat(right, 2), np.repeat(np.arange(400), 2))
    half = share_interval(right)
    assert [pairs.low, pairs.high] == pytest.approx([half.low, half.high], abs=5e-4)


def test_where_all_items_are_right_each_group_counts_as_one_item():
    found = share_interval(np.ones(200, bool), np.repeat(np.arange(20), 10))
    assert found.low < wilson_interval(20, 20).low < wilson_interval(200, 200).low
    assert found.low == pytest.approx(wilson_interval(20, 20).low, abs=0.03)


def test_a_single_group_says_nothing_about_others():
    labels, one = np.arange(60) % 3, np.zeros(60, dtype=int)
    ours = np.where(np.arange(60) < 40, labels, (labels + 1) % 3)
    intervals = metric_intervals(labels, np.eye(3)[ours], resamples=100, groups=one)
    assert {(each.low, each.high) for each in intervals.values()} == {(0.0, 1.0)}
    gain = paired_bootstrap_gain("accuracy", labels, ours, (labels + 1) % 3, 3, groups=one)
    assert gain.low <= -1
    assert gain.high >= 1
    assert paired_bootstrap_gain("accuracy", labels, ours, ours, 3, groups=one) == Interval(0.0, 0.0, 0.0)


def test_mcnemars_test_counts_groups():
    labels, ours, theirs = np.zeros(40, dtype=int), np.zeros(40, dtype=int), np.zeros(40, dtype=int)
    theirs[:9], ours[9:12] = 1, 1
    alone = mcnemar_p(labels, ours, theirs)
    repeated = [np.repeat(each, 5) for each in (labels, ours, theirs, np.arange(40))]
    assert mcnemar_p(*repeated) == pytest.approx(alone)
    assert mcnemar_p(*repeated[:3]) < 1e-3 < alone
    # Two groups, of three items and of one: |±3 ± 1| is at least 2 always, and 4 in half of all cases.
    four, groups = np.zeros(4, dtype=int), np.array([0, 0, 0, 1])
    assert mcnemar_p(four, four, np.ones(4, dtype=int), groups) == pytest.approx(0.5)
    assert mcnemar_p(four, np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0]), groups) == 1.0


def test_items_without_a_name_are_alone():
    groups = np.array(["anna", "", "bert", "", "anna"])
    numbers = group_numbers(groups)
    assert count_groups(groups) == 4
    assert numbers[0] == numbers[4]
    assert len(set(numbers[:4])) == 4
    assert group_numbers(np.array(["a", "b", ""])) is None
    assert group_numbers(None) is None
