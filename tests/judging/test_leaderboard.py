from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from scipy.stats import t

from headstart.errors import HeadstartError, InputError
from headstart.judging.leaderboard import Leaderboard, build_leaderboard
from headstart.judging.section import Evaluation
from tests.judging.boards import candidate_of

K = 4
LABELS = np.random.default_rng(0).integers(0, K, size=400)
IDS = np.array([f"{index:04d}" for index in range(400)])


def candidate(strategy, right, validation, **changes):
    """A candidate that predicts the first `right` of the 400 test items correctly and no other."""
    predictions = np.where(np.arange(400) < right, LABELS, (LABELS + 1) % K)
    kind = "baseline" if strategy in ("scratch", "classical") else "transfer"
    fields = {"labels": LABELS, "probabilities": np.eye(K)[predictions], "ids": IDS, "run_id": f"run-{strategy}"}
    return candidate_of(strategy, kind, validation=validation, **(fields | changes))


def compared(candidates, retrained=MappingProxyType({}), **evaluation):
    return build_leaderboard(candidates, Evaluation(**evaluation), retrained=retrained)


def test_the_winner_is_chosen_on_validation_and_not_on_test():
    board = compared([candidate("full", 300, 0.90), candidate("partial", 390, 0.80), candidate("scratch", 200, 0.95)])
    assert board.chosen.strategy == "full"
    assert [entry.strategy for entry in board.entries] == ["partial", "full", "scratch"]


def test_a_tie_on_validation_goes_to_the_earlier_candidate():
    assert compared([candidate("a", 100, 0.9), candidate("b", 300, 0.9)]).chosen.strategy == "a"


def test_strategies_that_predict_the_same_are_one_result():
    generator = np.random.default_rng(2)
    twins = generator.dirichlet(np.ones(K), 400)
    pair = [candidate("zero", 0, 0.6, probabilities=twins), candidate("scratch", 100, 0.5, probabilities=twins)]
    board = compared(
        [
            *pair,
            candidate("partial", 0, 0.7, probabilities=twins + generator.uniform(-1e-8, 1e-8, (400, K))),
            candidate("full", 0, 0.7, probabilities=twins),
            candidate("other", 0, 0.6, probabilities=np.where(twins == twins.max(1, keepdims=True), 0.7, 0.1)),
        ]
    )
    # The one that was chosen stands for all; a baseline has weights of its own, whatever it predicts.
    assert board.chosen.strategy == "partial"
    same = {entry.strategy: entry.same_as for entry in board.entries}
    assert same == {"partial": None, "full": "partial", "zero": "partial", "other": None, "scratch": None}
    # Each of the two that differ over scratch and over the majority class, which is the best baseline here.
    assert board.gains_count == 4
    assert Leaderboard.from_json(board.to_json()) == board


def test_gains_are_over_scratch_and_baselines_have_none():
    board = compared([candidate("zero", 100, 0.2), candidate("full", 380, 0.9), candidate("scratch", 200, 0.5)])
    full, scratch, zero = board.entries
    assert (full.verdict, full.gain) == ("helped", pytest.approx(0.45))
    assert (zero.verdict, zero.gain) == ("hurt", pytest.approx(-0.25))
    assert full.gain_low < full.gain < full.gain_high
    assert (scratch.verdict, scratch.gain, scratch.gain_low, scratch.gain_high) == (None, None, None, None)


def test_a_strategy_that_predicts_what_scratch_predicts_is_no_evidence():
    board = compared([candidate("full", 200, 0.9), candidate("scratch", 200, 0.9)])
    assert board.verdict == "no evidence"
    assert (board.chosen.gain_low, board.chosen.gain_high) == (0.0, 0.0)


def test_what_helped_by_items_is_no_evidence_by_the_few_groups_that_they_belong_to():
    # Items 300 to 339, on which alone the two differ, belong to one of ten speakers.
    groups = np.array([f"speaker {index // 40}" for index in range(400)])
    found = [
        compared([candidate("full", 340, 0.9, groups=each), candidate("scratch", 300, 0.5, groups=each)])
        for each in (None, groups)
    ]
    assert [board.verdict for board in found] == ["helped", "no evidence"]
    assert [board.groups for board in found] == [None, 10]
    assert "at 95% confidence on 400 test items of 10 groups" in found[1].sentence
    assert found[1].chosen.high - found[1].chosen.low > 2 * (found[0].chosen.high - found[0].chosen.low)
    assert Leaderboard.from_json(found[1].to_json()) == found[1]


def test_the_sentence_gives_verdict_gain_over_the_best_baseline_and_the_other():
    board = compared([candidate("full", 380, 0.9), candidate("scratch", 300, 0.5), candidate("classical", 200, 0.9)])
    assert board.sentence.startswith("helped: full gains +0.200 accuracy over scratch [+0.1")
    assert "at 95% confidence on 400 test items" in board.sentence
    assert "it beats the baseline classical (+0.450" in board.sentence
    assert "majority" not in board.sentence


def test_a_transfer_that_beats_scratch_and_not_every_baseline_has_not_helped():
    better, alike, worse = (
        compared([candidate("full", 380, 0.9), candidate("scratch", 200, 0.5), candidate("classical", right, 0.9)])
        for right in (390, 378, 300)
    )
    assert [board.verdict for board in (better, alike, worse)] == ["hurt", "no evidence", "helped"]
    assert better.sentence.startswith("hurt: full loses 0.025 accuracy against classical [-0.0")
    assert "it beats the baseline scratch (+0.450" in better.sentence
    assert alike.sentence.startswith("no evidence: full gains +0.005 accuracy over classical")
    assert better.chosen.gain == pytest.approx(0.45)
    assert better.chosen.gain_over_best == pytest.approx(-0.025)
    assert (better.best_baseline, worse.best_baseline) == ("classical", "classical")


def test_a_transfer_that_does_no_better_than_the_majority_class_has_not_helped():
    labels = np.where(np.arange(400) < 280, 0, LABELS)
    guesses = {"full": np.zeros(400, dtype=int), "scratch": np.full(400, 1)}
    board = compared(
        [
            candidate(name, 0, 0.5, labels=labels, probabilities=np.eye(K)[predicted])
            for name, predicted in guesses.items()
        ]
    )
    assert board.verdict == "no evidence"
    assert board.best_baseline == "majority class"
    assert board.sentence.startswith(
        "no evidence: full gains +0.000 accuracy over the test's majority class [+0.000, +0.000]"
    )
    assert "it beats the baseline scratch" in board.sentence


def test_all_gains_that_are_shown_hold_at_once_so_a_further_strategy_widens_them():
    generator = np.random.default_rng(1)
    pair = [candidate("full", 330, 0.9), candidate("scratch", 300, 0.5)]
    others = [
        candidate(f"s{number}", 0, 0.1, probabilities=np.eye(K)[np.where(generator.random(400) < 0.8, LABELS, 0)])
        for number in range(4)
    ]
    alone, among = compared(pair), compared([*pair, *others, candidate("classical", 310, 0.9)])
    # Five strategies over scratch and over classical, the chosen one over the majority class.
    assert (alone.gains_count, among.gains_count) == (2, 11)
    assert among.chosen.gain_low < alone.chosen.gain_low < alone.chosen.gain_high < among.chosen.gain_high
    over_scratch = next(each for each in among.comparisons if each.baseline == "scratch")
    assert over_scratch.gain.low == among.chosen.gain_low


def test_a_baseline_that_does_as_well_is_named_and_mcnemar_is_corrected_for_their_number():
    board = compared([candidate("full", 380, 0.9), candidate("scratch", 200, 0.5), candidate("classical", 376, 0.9)])
    assert board.verdict == "no evidence"
    assert board.unbeaten == ["classical"]
    # Four items that only full gets right: 2 / 2⁴, which is the largest of the three p-values.
    assert next(each.p for each in board.comparisons if each.baseline == "classical") == pytest.approx(2 / 16)
    assert next(each.p for each in board.comparisons if each.baseline == "scratch") == pytest.approx(2 * 2 / 2**180)


def right_on(*counts):
    """Predictions that are right on so many of the 400 items."""
    return [np.where(np.arange(400) < count, LABELS, (LABELS + 1) % K) for count in counts]


def half_of_gain(board, baseline):
    gain = next(each.gain for each in board.comparisons if each.baseline == baseline)
    return (gain.high - gain.low) / 2


def seen_by_items_and_seeds(once, baseline, parts):
    """Half an interval that beside the items of `once` has the variances by seeds `parts`, each with its degrees of
    freedom (Satterthwaite)."""
    variance = (half_of_gain(once, baseline) / 1.96) ** 2 + sum(each for each, _ in parts)
    freedom = variance**2 / sum(each**2 / degrees for each, degrees in parts)
    return t.ppf(0.975, freedom) * variance**0.5


def test_a_gain_that_another_training_seed_would_take_away_is_no_evidence():
    candidates = [candidate("full", 340, 0.9), candidate("scratch", 300, 0.5), candidate("classical", 300, 0.5)]
    once = compared(candidates)
    thrice = compared(candidates, retrained={"scratch": right_on(260, 340), "full": ()})
    assert (once.verdict, once.seed_deviation) == ("helped", None)
    # Scratch is right on .75, .65 and .85.
    assert thrice.seed_deviation == pytest.approx(0.1)
    assert thrice.verdict == "no evidence"
    assert thrice.chosen.gain == once.chosen.gain
    assert Leaderboard.from_json(thrice.to_json()) == thrice
    # Full was trained once, and is taken to vary as scratch does; so does the mean of three of scratch.
    for baseline, times in (("scratch", 1 + 1 / 3), ("classical", 1)):
        expected = seen_by_items_and_seeds(once, baseline, [(times * 0.1**2, 2)])
        assert half_of_gain(thrice, baseline) == pytest.approx(expected, rel=0.15)


def test_a_strategys_own_trainings_tell_how_far_it_varies():
    candidates = [candidate("full", 340, 0.9), candidate("scratch", 300, 0.5), candidate("classical", 300, 0.5)]
    once = compared(candidates)
    # Full is right on .85, .83 and .87, scratch on .75, .65 and .85.
    board = compared(candidates, retrained={"scratch": right_on(260, 340), "full": right_on(332, 348)})
    deviations = {entry.strategy: entry.seed_deviation for entry in board.entries}
    assert deviations == {"full": pytest.approx(0.02), "scratch": pytest.approx(0.1), "classical": None}
    expected = seen_by_items_and_seeds(once, "scratch", [(0.02**2, 2), (0.1**2 / 3, 2)])
    assert half_of_gain(board, "scratch") == pytest.approx(expected, rel=0.15)
    assert half_of_gain(board, "classical") == pytest.approx(
        seen_by_items_and_seeds(once, "classical", [(0.02**2, 2)]), rel=0.15
    )


def test_what_was_not_trained_in_steps_does_not_vary():
    candidates = [candidate("linear_probe", 340, 0.9), candidate("scratch", 300, 0.5), candidate("classical", 300, 0.5)]
    once, thrice = compared(candidates), compared(candidates, retrained={"scratch": right_on(260, 340)})
    expected = seen_by_items_and_seeds(once, "scratch", [(0.1**2 / 3, 2)])
    assert half_of_gain(thrice, "scratch") == pytest.approx(expected, rel=0.15)
    assert half_of_gain(thrice, "classical") == half_of_gain(once, "classical")


def test_a_combination_varies_as_the_member_that_varies_most_unless_its_own_spread_is_known():
    members = replace(candidate("ensemble", 340, 0.95).contender, members=("full", "partial"))
    candidates = [
        replace(candidate("ensemble", 340, 0.95), contender=members),
        candidate("full", 336, 0.9),
        candidate("partial", 338, 0.9),
        candidate("scratch", 300, 0.5),
    ]
    retrained = {"full": right_on(336, 336), "partial": right_on(298, 378), "scratch": right_on(300, 300)}
    once, thrice = compared(candidates), compared(candidates, retrained=retrained)

    def half(board):
        entry = next(each for each in board.entries if each.strategy == "ensemble")
        return (entry.gain_high - entry.gain_low) / 2

    deviation = float(np.std([338, 298, 378], ddof=1)) / 400
    assert half(thrice) ** 2 > half(once) ** 2 + (1.96 * deviation) ** 2
    known = compared(candidates, retrained={**retrained, "ensemble": right_on(340, 340)})
    assert half(known) == pytest.approx(half(once), rel=0.15)


@pytest.mark.parametrize("listed", [True, False])
def test_a_smaller_copy_varies_as_its_original_and_as_scratch_where_that_is_not_there(listed):
    small = replace(candidate("int8", 340, 0.9).contender, original="full")
    candidates = [replace(candidate("int8", 340, 0.9), contender=small), candidate("scratch", 300, 0.5)]
    retrained = {"scratch": right_on(260, 340)}
    if listed:
        candidates.append(candidate("full", 100, 0.1))
        retrained["full"] = right_on(60, 140)
    once, board = compared(candidates), compared(candidates, retrained=retrained)
    # Full and scratch are right on shares that vary by .1.
    parts = [(0.1**2, 2), (0.1**2 / 3, 2)] if listed else [((1 + 1 / 3) * 0.1**2, 2)]
    (half, before) = ((each.chosen.gain_high - each.chosen.gain_low) / 2 for each in (board, once))
    assert board.chosen.strategy == "int8"
    assert half**2 > before**2 + sum(1.96**2 * variance for variance, _ in parts)


def test_the_delivery_of_a_smaller_copy_says_whose_model_it_is():
    small = replace(candidate("int8", 340, 0.9).contender, original="full")
    board = compared([replace(candidate("int8", 340, 0.9), contender=small), candidate("full", 339, 0.9)])
    assert board.delivery == (
        "int8, the model of full in 8-bit whole numbers, which held-out samples do not tell from it"
    )
    assert Leaderboard.from_json(board.to_json()).chosen.original == "full"


def test_the_interval_of_a_gain_over_scratch_is_that_over_the_mean_of_its_trainings():
    candidates = [candidate("full", 380, 0.9), candidate("scratch", 300, 0.5), candidate("classical", 300, 0.5)]
    board = compared(candidates, retrained={"scratch": right_on(308, 292, 312), "full": ()})
    over = {each.baseline: each.gain for each in board.comparisons}
    # What is shown is the difference to the training that is shown.
    assert over["scratch"].value == over["classical"].value == pytest.approx(0.95 - 0.75)
    centres = {baseline: (gain.low + gain.high) / 2 for baseline, gain in over.items()}
    assert centres["scratch"] == pytest.approx(0.95 - np.mean([0.75, 0.77, 0.73, 0.78]))
    assert centres["classical"] == pytest.approx(0.95 - 0.75)


def test_the_sentence_of_a_loss_says_so():
    board = compared([candidate("full", 100, 0.9), candidate("scratch", 200, 0.5)])
    assert board.sentence.startswith("hurt: full loses 0.250 accuracy against scratch [-0.")


def test_a_gain_below_the_least_that_counts_is_no_evidence_and_the_sentence_names_the_least():
    board = compared([candidate("full", 220, 0.9), candidate("scratch", 200, 0.5)], min_gain=0.1)
    assert board.sentence.startswith("no evidence: full gains +0.050")
    assert "more than +0.100 was asked for" in board.sentence


def test_without_scratch_the_verdict_is_over_the_baselines_that_there_are():
    board = compared([candidate("full", 320, 0.9), candidate("classical", 200, 0.5)])
    assert board.verdict == "helped"
    assert (board.chosen.gain, board.chosen.gain_over_best) == (None, pytest.approx(0.3))


def test_without_a_baseline_there_is_no_verdict():
    board = compared([candidate("full", 220, 0.9)])
    assert (board.verdict, board.comparisons, board.best_baseline) == (None, (), None)
    assert board.sentence.startswith("unknown: full reaches 0.550 accuracy, and without a baseline there is nothing")


def test_rows_carry_the_metric_under_its_own_name():
    candidates = [candidate("full", 380, 0.9), candidate("scratch", 200, 0.5)]
    row = compared(candidates).rows()[0]
    metric = ["accuracy", "accuracy_low", "accuracy_high"]
    gain = ["gain", "gain_low", "gain_high", "gain_over_best", "gain_over_best_low", "gain_over_best_high"]
    assert list(row) == ["strategy", "source", *metric, "macro_f1", *gain, "seconds", "run_id", "same_as", "members"]
    assert (row["strategy"], row["accuracy"], row["run_id"]) == ("full", 0.95, "run-full")
    row = compared(candidates, metric="macro_recall").rows()[0]
    assert row["macro_recall_low"] < row["macro_recall"] < row["macro_recall_high"]


def test_json_gives_an_equal_leaderboard_back():
    for others in ([], [candidate("scratch", 200, 0.5), candidate("classical", 300, 0.5)]):
        board = compared([candidate("full", 380, 0.9), *others], metric="macro_f1", min_gain=0.02)
        assert Leaderboard.from_json(board.to_json()) == board


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"entries": [{}], "comparisons": []}'])
def test_text_that_is_no_leaderboard_is_refused(text):
    with pytest.raises(InputError, match="not a leaderboard"):
        Leaderboard.from_json(text)


def test_candidates_tested_on_different_samples_are_refused():
    for change in ({"ids": IDS[::-1]}, {"ids": IDS + "x"}, {"labels": (LABELS + 1) % K}):
        odd = candidate("odd", 200, 0.5, **change)
        with pytest.raises(HeadstartError, match="'odd' and 'full' were tested on different samples"):
            compared([candidate("full", 300, 0.9), odd])


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ([], "No transfer strategy"),
        ([candidate("scratch", 200, 0.5)], "No transfer strategy"),
        ([candidate("full", 200, 0.5), candidate("full", 300, 0.6)], "Two candidates are called 'full'"),
        (
            [candidate("full", 200, 0.5), candidate("other", 1, 0.5, probabilities=np.eye(K + 1)[LABELS])],
            "'other' are not usable.*5 classes but the data has 4",
        ),
    ],
)
def test_candidates_that_cannot_be_compared_are_refused(candidates, reason):
    with pytest.raises(HeadstartError, match=reason):
        compared(candidates)


def test_to_beat_a_baseline_that_had_not_learned_its_own_samples_proves_nothing():
    candidates = [candidate("full", 380, 0.9), candidate("scratch", 200, 0.5), candidate("classical", 150, 0.4)]
    ended, cut = (build_leaderboard(candidates, Evaluation(), unlearned=each) for each in ({}, {"scratch": 0.62}))
    assert (ended.verdict, cut.verdict) == ("helped", "no evidence")
    assert cut.untrained == ["scratch"]
    assert cut.unbeaten == []
    assert "scratch had learned only 62% of its own training samples when its epochs ran out" in cut.sentence
    assert "it beats the baseline classical" in cut.sentence
    assert Leaderboard.from_json(cut.to_json()) == cut


def test_a_baseline_that_had_not_learned_and_is_better_all_the_same_hurts():
    candidates = [candidate("full", 200, 0.9), candidate("scratch", 380, 0.5)]
    assert build_leaderboard(candidates, Evaluation(), unlearned={"scratch": 0.7}).verdict == "hurt"


def test_without_a_tie_and_a_better_baseline_the_chosen_strategy_is_delivered():
    board = compared([candidate("full", 380, 0.9), candidate("zero", 100, 0.2), candidate("scratch", 300, 0.5)])
    assert (board.ties, board.delivered, board.recommended, board.delivery) == ((), "full", None, "full")
    assert board.delivered_entry is board.chosen
