import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from headstart.errors import HeadstartError, InputError
from headstart.metrics.calibration import expected_calibration_error
from headstart.metrics.classification import classification_metrics, confused, largest_confusions
from headstart.metrics.metric import METRICS

CASES = {
    "every class": (200, 5, range(5), range(5)),
    "a class without labels": (80, 6, [0, 1, 3, 4, 5], range(6)),
    "a class that is never predicted": (80, 4, range(4), [0, 1, 3]),
    "one true class": (30, 3, [1], range(3)),
    "fewer items than classes": (7, 20, range(20), range(20)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_scikit_learn(case, seed):
    items, K, true_classes, predicted_classes = CASES[case]
    generator = np.random.default_rng(seed)
    labels = generator.choice(list(true_classes), size=items)
    probabilities = generator.dirichlet(np.ones(K), size=items)
    probabilities[:, [k for k in range(K) if k not in predicted_classes]] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predictions = probabilities.argmax(axis=1)

    ours = classification_metrics(labels, probabilities, [f"class {k}" for k in range(K)])

    macro = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert ours["macro_precision"] == pytest.approx(macro[0])
    assert ours["macro_recall"] == pytest.approx(macro[1])
    assert ours["balanced_accuracy"] == pytest.approx(macro[1])
    assert ours["macro_f1"] == pytest.approx(macro[2])
    assert ours["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(K))
    assert ours["confusion"] == expected.tolist()
    each = sklearn_metrics.precision_recall_fscore_support(labels, predictions, labels=range(K), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), each, strict=True):
        assert [row[key] for row in ours["per_class"]] == pytest.approx(values)


def test_calibration_error_agrees_with_a_computation_by_hand():
    # Confidences 0.62 and 0.65 share the bin (9/15, 10/15], one right of two; 0.95 is alone in the last, and right.
    probabilities = np.array([[0.62, 0.38], [0.35, 0.65], [0.05, 0.95]])
    labels = np.array([0, 0, 1])
    by_hand = 2 / 3 * abs(1 / 2 - (0.62 + 0.65) / 2) + 1 / 3 * abs(1 - 0.95)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(by_hand)


def test_certain_and_right_is_perfectly_calibrated_and_certain_and_wrong_is_not_at_all():
    certain = np.eye(3)
    assert expected_calibration_error(np.array([0, 1, 2]), certain) == 0
    assert expected_calibration_error(np.array([1, 2, 0]), certain) == 1


def test_metrics_are_plain_json():
    result = classification_metrics(np.array([0, 1]), np.eye(2, dtype=np.float32), ["a", "b"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("labels", "probabilities", "reason"),
    [
        ([0, 1], [[1.0, 0.0]], "do not belong together"),
        ([], np.zeros((0, 2)), "no items"),
        ([0], [[0.2, 0.3, 0.5]], "3 classes but"),
        ([2], [[0.5, 0.5]], "not one of the 2 classes"),
        ([-1], [[0.5, 0.5]], "not one of the 2 classes"),
        ([0], [[float("nan"), 0.5]], "not finite"),
        ([0], [[3.0, -2.0]], "softmax"),
        ([0], [[0.5, 0.1]], "softmax"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(labels, probabilities, reason):
    with pytest.raises(HeadstartError, match=reason):
        classification_metrics(np.array(labels, dtype=int), np.array(probabilities), ["a", "b"])


def test_an_unknown_metric_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"'acuracy'.*accuracy.*macro_f1"):
        METRICS["acuracy"]


def test_of_many_classes_the_most_confused_are_shown_and_the_others_are_one():
    generator = np.random.default_rng(0)
    counts = np.diag(generator.integers(5, 9, 300))
    counts[7, 250] = counts[9, 7] = 40
    names, shown = largest_confusions([f"class {number}" for number in range(300)], counts, 4)
    assert names == ["class 7", "class 9", "class 250", "297 others"]
    assert np.sum(shown) == counts.sum()
    assert (shown[0][2], shown[1][0], shown[3][3]) == (
        40,
        40,
        np.trace(counts) - counts[[7, 9, 250], [7, 9, 250]].sum(),
    )
    few = largest_confusions(["a", "b"], [[3, 1], [0, 2]])
    assert few == (["a", "b"], [[3, 1], [0, 2]])


def test_a_confusion_matrix_is_kept_without_its_empty_cells():
    found = confused(["a", "b", "c"], [[3, 0, 1], [0, 0, 0], [0, 2, 0]])
    assert found == {"classes": ["a", "b", "c"], "cells": [[0, 0, 3], [0, 2, 1], [2, 1, 2]]}
