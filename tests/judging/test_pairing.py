from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.pairing import ComparisonError, Pair, stored_pair
from headstart.metrics.predictions import Predictions

IDS = ["a", "b", "c", "d"]


def predictions(ids, labels, predicted, classes=("cat", "dog", "owl")):
    """Predictions from class names."""
    number = {name: position for position, name in enumerate(classes)}
    return Predictions(
        np.array(ids),
        np.array([number[name] for name in labels]),
        np.eye(len(classes))[[number[name] for name in predicted]],
        tuple(classes),
    )


def names(pair: Pair) -> list[tuple[str, str, str, str]]:
    """Each item as id, label, our prediction and theirs, in the order of the ids."""
    columns = (np.array(pair.classes)[each].tolist() for each in (pair.labels, pair.ours, pair.theirs))
    return sorted(zip(pair.ids.tolist(), *columns, strict=True))


def test_items_are_matched_by_their_ids_and_classes_by_their_names():
    ours = predictions(IDS, ["cat", "dog", "owl", "cat"], ["cat", "dog", "dog", "owl"])
    theirs = predictions(
        IDS[::-1], ["cat", "owl", "dog", "cat"], ["cat", "owl", "cat", "dog"], classes=("owl", "cat", "dog")
    )
    assert names(stored_pair(ours, theirs)) == [
        ("a", "cat", "cat", "dog"), ("b", "dog", "dog", "cat"), ("c", "owl", "dog", "owl"), ("d", "cat", "owl", "cat"),
    ]  # fmt: skip


def test_a_pair_keeps_the_groups_of_its_items_whichever_side_knows_them():
    labels, groups = ["cat", "dog", "owl", "cat"], np.array(["anna", "bert", "anna", ""])
    known = replace(predictions(IDS, labels, labels), groups=groups)
    unknown = predictions(IDS[::-1], labels[::-1], labels)
    for pair in (stored_pair(known, unknown), stored_pair(unknown, known)):
        assert dict(zip(pair.ids.tolist(), pair.groups.tolist(), strict=True)) == dict(zip(IDS, groups, strict=True))
    assert stored_pair(known, unknown).without({"b"}).groups.tolist() == ["anna", "anna", ""]
    assert stored_pair(unknown, unknown).without({"b"}).groups is None


@pytest.mark.parametrize(
    ("ids", "labels"),
    [(["a", "b", "c", "e"], ["cat", "dog", "owl", "cat"]), (IDS, ["cat", "dog", "owl", "dog"]), (["a"], ["cat"])],
)
def test_other_items_or_other_labels_make_no_pair(ids, labels):
    ours = predictions(IDS, ["cat", "dog", "owl", "cat"], ["cat"] * 4)
    assert stored_pair(ours, predictions(ids, labels, ["cat"] * len(ids))) is None


def test_models_that_know_different_classes_are_not_compared():
    ours = predictions(IDS, ["cat"] * 4, ["cat"] * 4)
    with pytest.raises(ComparisonError, match="only one of the two knows fox, owl"):
        stored_pair(ours, predictions(IDS, ["cat"] * 4, ["cat"] * 4, classes=("cat", "dog", "fox")))


def test_a_copy_of_a_file_is_an_item_of_its_own():
    ours = predictions(["a", "a", "b"], ["cat", "cat", "dog"], ["cat", "cat", "cat"])
    pair = stored_pair(ours, predictions(["a", "b", "a"], ["cat", "dog", "cat"], ["owl", "dog", "owl"]))
    assert names(pair) == [("a", "cat", "cat", "owl"), ("a", "cat", "cat", "owl"), ("b", "dog", "cat", "dog")]


def test_items_that_were_trained_on_are_left_out_and_counted():
    ours = predictions(IDS, ["cat", "dog", "owl", "cat"], ["cat"] * 4)
    pair = stored_pair(ours, ours)
    assert pair.without(set()).left_out == 0
    rest = pair.without({"b", "x"}).without({"d"})
    assert (sorted(rest.ids), rest.left_out) == (["a", "c"], 2)
    with pytest.raises(ComparisonError, match="trained on every item"):
        pair.without(set(IDS))
