"""Each gate by itself, on versions that are made here."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.judging.evidence import Evidence
from headstart.judging.pairing import Pair
from headstart.metrics.counts import recalls
from headstart.metrics.metric import METRICS, Metric
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking.gate import GATES, Case, Gate, GateResult, at_most, judge
from headstart.tracking.gates import min_metrics
from headstart.tracking.paired_predictions import paired_predictions
from headstart.tracking.policy import Policy, policy_section
from headstart.tracking.version_record import VersionRecord

CLASSES = ("cat", "dog", "owl")
LABELS = np.arange(120) % 3
IDS = np.array([f"{n:03}" for n in range(120)])


def with_mistakes(*items: int) -> np.ndarray:
    """Predictions that are right except for some items."""
    predicted = LABELS.copy()
    predicted[list(items)] = (predicted[list(items)] + 1) % 3
    return predicted


def evidence(predicted: np.ndarray, **changes: Any) -> Evidence:
    probabilities = np.full((120, 3), 0.05)
    probabilities[np.arange(120), predicted] = 0.9
    fields: dict[str, Any] = {
        "metric": "accuracy",
        "figures": {"gain/accuracy": 0.1, "gain/accuracy_low": 0.04},
        "sentence": "helped",
        "digests": {},
        "dataset": "",
        "predictions": Predictions(IDS, LABELS, probabilities, CLASSES),
        "trained_on": np.array(["x"]),
        "report": "",
    }
    return Evidence(**fields | changes)


def version(number: int, predicted: np.ndarray | None, **changes: Any) -> VersionRecord:
    fields: dict[str, Any] = {
        "model": "pets-target",
        "version": str(number),
        "role": "target",
        "evidence": None if predicted is None else evidence(predicted),
        "learned_from": frozenset(),
        "gaps": (),
    }
    return VersionRecord(**fields | changes)


FAULTLESS = with_mistakes()


def gates(policy: dict[str, Any], ours=FAULTLESS, theirs=None, pair: str | None = None, **changes: Any):
    """The gates of a policy by name; without `theirs` there is no champion."""
    challenger = version(2, ours, **changes)
    champion = None if theirs is None else version(1, theirs)
    if champion and pair is None:
        pair = Pair(CLASSES, IDS, LABELS, ours, theirs)
    return {gate.name: gate for gate in judge(Case(Policy.of(policy), challenger, champion, pair))}


def only(policy: dict[str, Any], *arguments: Any, **changes: Any) -> GateResult:
    (name,) = policy
    return gates(policy, *arguments, **changes)[name]


def test_better_wants_the_whole_interval_of_the_difference_above_0():
    clearly = only({"against_champion": "better"}, with_mistakes(), with_mistakes(*range(30)))
    assert (clearly.passed, clearly.limit, clearly.relation) == (True, 0, ">")
    assert 0.15 < clearly.value < 0.25
    assert clearly.text.startswith("accuracy +0.250 [+0.1")
    assert "against version 1 on 120 items; McNemar p = 1.9e-09" in clearly.text
    barely = only({"against_champion": "better"}, with_mistakes(3), with_mistakes(3, 4))
    assert (barely.passed, barely.value < 0) == (False, True)


def test_a_champion_is_not_replaced_by_its_equal_nor_by_a_worse_one():
    same = with_mistakes(1, 2)
    assert only({"against_champion": "better"}, same, same).passed is False
    assert only({"against_champion": "better"}, with_mistakes(*range(30)), same).passed is False


def test_not_worse_lets_the_interval_reach_down_to_the_margin():
    same = with_mistakes(1, 2)
    assert only({"against_champion": "not_worse"}, same, same).passed is True
    policy = {"against_champion": "not_worse", "margin": 0.04}
    assert gates(policy, with_mistakes(1, 2, 3, 4), same)["against_champion"].passed is False
    assert gates(policy | {"margin": 0.06}, with_mistakes(1, 2, 3, 4), same)["against_champion"].passed is True


def test_more_confidence_asks_for_more():
    arguments = (with_mistakes(1, 2), with_mistakes(*range(1, 8)))
    low = [gates({"confidence": confidence}, *arguments)["against_champion"].value for confidence in (0.8, 0.99)]
    assert low[1] < low[0]


def test_the_comparison_is_in_the_metric_that_the_challenger_was_chosen_by():
    ours = version(2, None, evidence=evidence(with_mistakes(), metric="macro_f1"))
    theirs = version(1, with_mistakes(*range(30)))
    pair = Pair(CLASSES, IDS, LABELS, with_mistakes(), with_mistakes(*range(30)), left_out=7)
    gate = judge(Case(Policy(), ours, theirs, pair))[0]
    assert gate.text.startswith("macro F1 +0.")
    assert "McNemar" not in gate.text
    assert "7 left out as one of the two was trained on them" in gate.text


def test_items_that_belong_together_count_once_against_the_champion():
    ours, theirs = version(2, with_mistakes()), version(1, with_mistakes(*range(12)))
    groups = np.repeat(np.arange(10), 12).astype(str)
    alone, together = (
        judge(
            Case(Policy(), ours, theirs, Pair(CLASSES, IDS, LABELS, with_mistakes(), with_mistakes(*range(12)), known))
        )
        for known in (None, groups)
    )
    # The twelve items that the challenger alone is right on are one speaker's.
    assert (alone[0].passed, together[0].passed) == (True, False)
    assert "on 120 items; McNemar p = 0.00049" in alone[0].text
    assert "on 120 items of 10 groups; McNemar p = 1" in together[0].text


def test_without_a_champion_there_is_nothing_to_compare_with():
    found = gates({})
    for name in ("against_champion", "max_class_regression"):
        assert (found[name].passed, found[name].value) == (None, None)


def test_what_cannot_be_compared_is_refused_with_the_reason():
    found = gates({}, with_mistakes(), with_mistakes(), pair="the classes differ")
    assert (found["against_champion"].passed, found["max_class_regression"].passed) == (False, False)
    assert found["against_champion"].text == "not comparable with version 1: the classes differ"


def test_each_metric_has_its_own_least_value():
    found = gates({"min_metrics": {"accuracy": 0.95, "macro_recall": 0.97}}, with_mistakes(0, 1, 2, 3, 4))
    assert found["min_metrics.accuracy"].value == pytest.approx(115 / 120)
    assert found["min_metrics.accuracy"].passed is True
    assert found["min_metrics.macro_recall"].passed is False


def test_a_metric_that_is_added_has_a_gate_and_ends_no_promotion(add_member, monkeypatch):
    add_member(METRICS, "worst_recall", Metric("worst recall", lambda counts: recalls(counts).min(axis=-1)))
    assert "against_champion" in gates({})
    monkeypatch.setitem(GATES._members, "min_metrics", runpy.run_path(min_metrics.__file__)["GATE"])
    policy = policy_section().of({"min_metrics": {"worst_recall": 0.95}})
    gate = judge(Case(policy, version(1, with_mistakes(0, 3, 6, 9))))[1]
    assert (gate.name, gate.passed) == ("min_metrics.worst_recall", False)
    assert gate.value == pytest.approx(0.9)
    assert gate.text == "worst recall on the test split"


@pytest.mark.parametrize(
    ("policy", "value", "passed"),
    [
        ({"min_gain": 0.1}, 0.1, True),
        ({"min_gain": 0.11}, 0.1, False),
        ({"min_gain_low": 0.04}, 0.04, True),
        ({"min_gain_low": 0.05}, 0.04, False),
    ],
)
def test_the_gain_over_scratch_must_reach_its_limit(policy, value, passed):
    gate = only(policy)
    assert (gate.value, gate.passed) == (value, passed)


def test_a_target_without_a_measured_gain_is_refused_and_a_source_is_not_asked():
    unmeasured = only({"min_gain": 0.0}, evidence=evidence(with_mistakes(), figures={}))
    assert (unmeasured.passed, unmeasured.value) == (False, None)
    assert "run with a baseline" in unmeasured.text
    assert only({"min_gain": 0.0}, role="source").passed is None
    assert only({"min_gain": 0.0}, role="baseline").passed is None


def test_the_gate_on_the_gain_says_the_verdicts_word():
    judged = evidence(FAULTLESS, sentence="no evidence: full gains +0.010 accuracy over scratch.")
    assert only({"min_gain": 0.0}, evidence=judged).text.endswith("in accuracy; no evidence")


def test_the_gain_that_is_asked_for_is_that_over_the_best_baseline_where_it_is_known():
    known = {"gain/accuracy": 0.1, "gain_over_best/accuracy": -0.02, "gain_over_best/accuracy_low": -0.05}
    over_best = only({"min_gain": 0.0}, evidence=evidence(with_mistakes(), figures=known))
    older = only({"min_gain": 0.0}, evidence=evidence(with_mistakes(), figures={"gain/accuracy": 0.1}))
    assert (over_best.passed, over_best.value) == (False, -0.02)
    assert (older.passed, older.value) == (True, 0.1)
    assert "over the best baseline" in over_best.text


def test_a_class_that_gets_worse_is_named_even_if_the_whole_gets_better():
    # 30 mistakes over all classes against 8 of the 40 cats.
    ours, theirs = with_mistakes(*range(0, 24, 3)), with_mistakes(*(n for n in range(90) if n % 3))
    found = gates({}, ours, theirs)
    gate = found["max_class_regression"]
    assert found["against_champion"].passed is True
    assert (gate.passed, gate.limit) == (False, 0.1)
    assert gate.value == pytest.approx(0.2)
    assert gate.text == "recall of 'cat' from 1.000 to 0.800"
    assert gates({"max_class_regression": 0.2}, ours, theirs)["max_class_regression"].passed is True


def test_where_no_class_gets_worse_the_drop_is_0():
    gate = gates({}, with_mistakes(), with_mistakes(*range(30)))["max_class_regression"]
    assert (gate.passed, gate.value) == (True, 0)


def test_the_calibration_error_is_that_of_the_stored_predictions():
    # Confidence 0.9 everywhere, and right everywhere.
    assert only({"max_ece": 0.11}).value == pytest.approx(0.1)
    assert only({"max_ece": 0.11}).passed is True
    assert only({"max_ece": 0.09}).passed is False


def test_leaks_are_counted_among_the_test_items():
    known = frozenset(["x", "000", "007"])
    assert only({"max_leaked": 1}, learned_from=known).passed is False
    assert only({"max_leaked": 2}, learned_from=known).value == 2
    assert only({"max_leaked": 2}, learned_from=known).passed is True


PUBLISHED = "torchvision://resnet18/IMAGENET1K_V1"


@pytest.mark.parametrize(("word", "passed"), [("pass", None), ("refuse", False)])
def test_what_a_source_was_trained_on_is_not_0_where_nobody_knows_it(word, passed):
    found = gates({"unknown_training_data": word}, unknown=(PUBLISHED,))
    for name, before in (("max_leaked", "at least 0 of its 120 test items"), ("lineage", "digests and evidence agree")):
        assert (found[name].passed, found[name].value) == (passed, None)
        assert found[name].text == f"{before}; what {PUBLISHED} learned from is not known"


def test_known_leaks_and_gaps_close_their_gates_whatever_else_is_not_known():
    found = gates({}, unknown=(PUBLISHED,), learned_from=frozenset(["000", "007"]), gaps=("a is missing",))
    assert (found["max_leaked"].passed, found["max_leaked"].value) == (False, 2)
    assert (found["lineage"].passed, found["lineage"].text) == (False, "a is missing")


def test_gaps_in_the_lineage_are_listed():
    gate = only({"lineage": True}, gaps=("a is missing", "b is missing"))
    assert (gate.passed, gate.value, gate.text) == (False, 2, "a is missing; b is missing")


def test_a_version_without_evidence_passes_no_gate_that_needs_it():
    policy = {"min_metrics": {"accuracy": 0.1}, "min_gain_low": -1, "max_ece": 1, "max_leaked": 1000}
    found = gates(policy, None)
    for name in ("min_metrics.accuracy", "min_gain", "min_gain_low", "max_ece", "max_leaked"):
        assert (found[name].passed, found[name].text) == (False, "the version has no evidence")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    ModelBundle(convnet(classes=3, channels=1), "convnet", "image", Preprocessing(16, 1, (0.4,), (0.2,)), CLASSES).save(
        tmp_path / "bundle"
    )
    return tmp_path / "bundle"


def test_size_and_speed_are_measured_on_the_bundle(bundle, monkeypatch):
    monkeypatch.setattr("headstart.tracking.registry.fetch", lambda uri: bundle)
    size = sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    assert only({"max_size_mb": size}).value == size
    assert only({"max_size_mb": size}).passed is True
    assert only({"max_size_mb": size / 2}).passed is False
    found = gates({"max_latency_ms": 1e6}, with_mistakes(), with_mistakes())["max_latency_ms"]
    assert found.passed is True
    assert found.value > 0
    assert "version 1 takes" in found.text
    assert only({"max_latency_ms": 1e-6}).passed is False


def test_a_gate_that_is_switched_off_is_not_there(monkeypatch):
    monkeypatch.delattr("headstart.tracking.registry.fetch")
    off = {"against_champion": "none", "min_gain": None, "max_class_regression": None, "max_leaked": None}
    assert gates(off | {"lineage": False, "loads": False}, with_mistakes(), with_mistakes()) == {}


def unlabelled(number: int) -> VersionRecord:
    """A source whose own data has no labels."""
    nothing = Predictions(IDS, np.full(120, -1), np.empty((120, 0), dtype=np.float32), ())
    return version(number, None, role="source", evidence=evidence(FAULTLESS, figures={}, predictions=nothing))


def test_what_was_not_measured_for_want_of_labels_passes_no_gate_that_asks_for_it():
    policy = Policy.of({"min_metrics": {"accuracy": 0.5}, "max_ece": 0.1})
    found = {gate.name: gate for gate in judge(Case(policy, unlabelled(1)))}
    for name in ("min_metrics.accuracy", "max_ece"):
        assert (found[name].passed, found[name].value) == (False, None)
        assert found[name].text == "its data has no labels to measure it by"
    assert found["max_leaked"].passed


@pytest.mark.parametrize(("ours", "theirs", "number"), [(2, None, 2), (None, 1, 1), (2, 1, 2)])
def test_a_model_whose_data_has_no_labels_is_comparable_with_none(ours, theirs, number):
    challenger = unlabelled(2) if ours else version(2, FAULTLESS)
    champion = unlabelled(1) if theirs else version(1, FAULTLESS)
    assert paired_predictions(challenger, champion) == f"the data of version {number} has no labels"


def test_a_gate_that_a_package_adds_is_a_key_of_the_policy_and_is_asked(add_member):
    few = Gate(
        int | None, None, "classes of the model", at_most(lambda case: (len(case.labelled_test.classes), "classes"))
    )
    add_member(GATES, "max_classes", few)
    policy = policy_section()

    assert judge(Case(policy(), version(1, FAULTLESS)))[-1].name == "loads"
    gate = judge(Case(policy.of({"max_classes": 2}), version(1, FAULTLESS)))[-1]
    assert gate == GateResult("max_classes", False, 3, "<=", 2, "classes")
    with pytest.raises(InputError, match="max_clases: unknown key; did you mean max_classes"):
        policy.of({"max_clases": 2})
