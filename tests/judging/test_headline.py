import numpy as np
import pytest

from headstart.judging.headline import FACTS, Findings, headline
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.robustness import Corrupted, Robustness
from headstart.judging.section import Evaluation
from headstart.metrics.bootstrap import metric_intervals
from headstart.metrics.groups import mean_interval
from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import wilson_interval
from tests.judging.boards import candidate_of

LABELS = np.arange(300) % 3


def missed(labels, *items):
    """Predictions that are right except for some items."""
    predicted = labels.copy()
    predicted[list(items)] = (predicted[list(items)] + 1) % 3
    return predicted


def facts(ours, scratch=None, *, labels=LABELS, validation=0.8, evaluation=None, groups=None, **changes):
    """The facts about a transfer with these predictions, of classes (N,) or as probabilities (N, 3)."""
    given = {"full": ours} if scratch is None else {"full": ours, "scratch": scratch}
    sure = {name: np.eye(3)[each] if each.ndim == 1 else each for name, each in given.items()}
    kinds = {"full": "transfer", "scratch": "baseline"}
    candidates = [candidate_of(name, kinds[name], labels, sure[name], validation, groups=groups) for name in sure]
    tested = {each.contender.strategy: each.predictions for each in candidates}
    board = build_leaderboard(candidates, Evaluation(resamples=200, **(evaluation or {})))
    intervals = metric_intervals(labels, sure["full"], resamples=200)
    fields = {"validated": 200} | changes
    return headline(Findings(board, tested["full"], tested.get("scratch"), intervals, **fields))


def test_a_transfer_without_faults_has_no_facts_beside_its_verdict():
    assert facts(missed(LABELS, *range(60)), missed(LABELS, *range(100))) == {}


def test_each_fact_is_named_after_its_function_which_documents_the_threshold():
    assert len({fact.__name__ for fact in FACTS}) == len(FACTS) == 6
    assert all(fact.__doc__ for fact in FACTS)


@pytest.mark.parametrize(("values", "said"), [((-0.1, -0.15, -0.05), True), ((-0.1, -0.25, 0.05), False)])
def test_a_fall_below_scratch_on_corrupted_items_is_said_where_its_interval_lies_below_0(values, said):
    ours, scratch = (
        Robustness(100, wilson_interval(90, 100), (Corrupted("blur", (wilson_interval(hits, 100),)),))
        for hits in (41, 51)
    )
    found = facts(LABELS, robustness=ours, scratch_robustness=scratch, corrupted_lead=Interval(*values))
    assert ("worse_when_corrupted" in found) == said
    if said:
        assert "0.410 accuracy against 0.510, -0.100 [-0.150, -0.050]" in found["worse_when_corrupted"]


def test_a_source_that_does_not_see_all_is_named():
    sentence = "Of the target's recordings the source does not see what comes after 2 s."
    found = facts(missed(LABELS, *range(60)), missed(LABELS, *range(100)), unseen=sentence)
    assert found["unseen_by_source"] == sentence
    assert "unseen_by_source" not in facts(missed(LABELS, *range(60)), missed(LABELS, *range(100)))


def test_a_model_worse_than_a_guess_is_said_to_be():
    found = facts(missed(LABELS, *range(240)), LABELS, validation=0.2)
    assert found["below_chance"] == "full is right on 0.200 of the test items; a guess among 3 classes is on 0.333."
    assert "below_chance" not in facts(missed(LABELS, *range(190)), LABELS, validation=0.3)


def test_the_majority_class_is_named_where_no_baseline_has_been_compared_with():
    labels = np.where(np.arange(300) < 150, 0, LABELS)
    predicted = missed(labels, *range(30), *range(150, 270))
    alone = facts(predicted, labels=labels, validation=0.5)
    assert "the most frequent class always is on 0.667" in alone["below_chance"]
    # The verdict tells it already.
    assert "below_chance" not in facts(predicted, labels, labels=labels, validation=0.5)


def test_an_accuracy_that_hides_imbalance_stands_beside_the_balanced_one():
    labels = np.where(np.arange(300) < 205, 1, LABELS)
    found = facts(np.ones(300, dtype=int), labels, labels=labels)
    assert found["imbalance_hidden"].startswith("Accuracy hides imbalance: 1 has 79% of the test items. Balanced")
    assert "accuracy is 0.333 [" in found["imbalance_hidden"]
    balanced = {"metric": "balanced_accuracy"}
    assert "imbalance_hidden" not in facts(np.ones(300, dtype=int), labels, labels=labels, evaluation=balanced)
    assert "imbalance_hidden" not in facts(LABELS, LABELS)


@pytest.mark.parametrize(("larger", "said"), [(155, False), (180, False), (205, True)])
def test_of_two_classes_one_is_always_the_larger_which_alone_is_no_imbalance(larger, said):
    labels = (np.arange(300) >= larger).astype(int)
    assert ("imbalance_hidden" in facts(np.eye(2)[labels], labels=labels)) == said


def test_classes_with_a_surely_higher_loss_than_with_scratch_are_named_worst_first():
    # Class 0 loses 40 of 100 items and class 1 thirty; class 2 loses two, which may be chance.
    lost = [*range(0, 120, 3), *range(1, 91, 3), 2, 5]
    found = facts(missed(LABELS, *lost), LABELS)
    assert found["classes_lost"] == (
        "2 of 3 classes surely have a higher log loss than with scratch: 0 (6.45 against 0.00), 1 (4.84 against 0.00)."
    )
    # They are the recordings of four speakers.
    groups = np.array([f"speaker {n // 30}" for n in range(300)])
    assert "classes_lost" not in facts(missed(LABELS, *lost), LABELS, groups=groups)


def test_a_scratch_that_says_one_class_of_everything_does_not_make_that_class_a_lost_one():
    constant = np.full((300, 3), 0.3) + 0.1 * (np.arange(3) == 0)
    ours = 0.01 + 0.97 * np.eye(3)[missed(LABELS, *range(0, 30, 3))]
    assert "classes_lost" not in facts(ours, constant)


def test_a_test_far_below_validation_is_said_where_the_samples_do_not_explain_it():
    predicted = missed(LABELS, *range(90))
    found = facts(predicted, validation=0.85)
    assert "0.700 accuracy against 0.850" in found["far_below_validation"]
    # Ten validation samples may be that lucky, and a gap of a few points is nothing.
    assert "far_below_validation" not in facts(predicted, validation=0.85, validated=10)
    assert "far_below_validation" not in facts(predicted, validation=0.74)
    # That all of ten samples are right proves little.
    assert "far_below_validation" not in facts(missed(LABELS, *range(30)), validation=1.0, validated=10)


def test_a_paired_lead_is_students_interval_and_groups_widen_it():
    values = np.repeat([0.1, -0.2, 0.0, -0.3], 5)
    alone, together = mean_interval(values), mean_interval(values, np.repeat(np.arange(4), 5))
    assert alone.value == together.value == pytest.approx(-0.1)
    # t of .975 with 19 degrees of freedom is 2.093.
    assert alone.high - alone.value == pytest.approx(2.093 * values.std(ddof=1) / np.sqrt(20), rel=1e-3)
    assert together.high - together.value == pytest.approx(3.182 * np.std([0.1, -0.2, 0, -0.3], ddof=1) / 2, rel=1e-3)
