"""What was held out of one training is too little to tell contenders apart where labels are few."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from headstart.data.labelled import LabelledDataset
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.tally import score
from headstart.metrics.tasks.single_label import SingleLabel
from headstart.training.context import RunContext
from headstart.training.held_out import held_out_further, judging_parts, judging_rows
from headstart.training.supervised import fit
from headstart_pipelines.demo import digits
from tests.sources import pack


@pytest.fixture
def again(untrained, plan):
    """A training on a data set, which notes what it was given."""

    def train(dataset, context):
        train.given.append((dataset, context))
        return fit(untrained(dataset), dataset, plan(dataset, epochs=2), context)

    train.given = []
    return train


def test_more_labels_are_held_out_of_further_trainings_until_there_are_enough(threes_and_eights, again, monkeypatch):
    first = again(threes_and_eights, RunContext())
    found = held_out_further(first, threes_and_eights, RunContext(), again)
    (_, *further), labelled = again.given, LabelledDataset(threes_and_eights)
    assert len(further) == 2
    held_out = [set(first.held_out.ids), *(set(data.split("val").ids) for data, _ in further)]
    assert set(found.held_out.ids) == set.union(*held_out)
    assert len(found.held_out.ids) == sum(map(len, held_out))
    label_of = dict(zip(labelled.split("train").ids, labelled.split("train").labels, strict=True))
    assert found.held_out.labels.tolist() == [label_of[each] for each in found.held_out.ids]
    assert found.validation == score("accuracy", found.held_out.labels, found.held_out.predicted, 2)
    # The model is the one that was trained before.
    assert found.model is first.model
    # A training for the judgement alone reports no epochs, is not made again on all labels and has no folds itself.
    assert all(context.on_epoch is None and not context.refit and not context.cross_validate for _, context in further)
    monkeypatch.setattr(SingleLabel, "held_out_enough", len(first.held_out.ids))
    assert held_out_further(first, threes_and_eights, RunContext(), again) is not found
    assert len(again.given) == 3


def test_what_several_trainings_held_out_is_calibrated_by_all_of_it_as_their_model_is(threes_and_eights, again):
    trainings = []

    def noted(dataset, context):
        trained = again(dataset, context)
        trainings.append((trained, dataset.split("val")))
        return trained

    first = noted(threes_and_eights, RunContext())
    found = held_out_further(first, threes_and_eights, RunContext(), noted)
    logits = np.concatenate([each.bundle.predict_logits(val.samples) for each, val in trainings])
    labels = np.concatenate([val.labels for _, val in trainings])
    temperature = fit_temperature(logits, labels)
    assert found.held_out.ids.tolist() == [name for _, val in trainings for name in val.ids]
    assert np.allclose(found.held_out.outputs, softmax(logits / temperature, axis=1), atol=1e-3)
    assert found.bundle.temperature == pytest.approx(temperature, rel=1e-3)


def test_nothing_more_is_trained_where_it_is_not_asked_for(threes_and_eights, again):
    first = again(threes_and_eights, RunContext())
    assert held_out_further(first, threes_and_eights, RunContext(cross_validate=False), again) is first
    assert len(again.given) == 1


def test_a_training_that_is_not_refitted_is_judged_on_as_many_labels_as_one_that_is(threes_and_eights, again):
    first = again(threes_and_eights, RunContext())
    found = held_out_further(first, threes_and_eights, RunContext(refit=False), again)
    assert found.held_out.ids.tolist() == (
        held_out_further(first, threes_and_eights, RunContext(), again).held_out.ids.tolist()
    )
    assert len(found.held_out.ids) > len(first.held_out.ids)


def test_nothing_more_is_trained_where_all_labels_were_held_out_already(threes_and_eights, again):
    first = again(threes_and_eights, RunContext())
    every = LabelledDataset(threes_and_eights).split("train")
    held_out = replace(
        first.held_out, ids=every.ids, labels=every.labels, outputs=np.full((len(every.ids), 2), 0.5), groups=None
    )
    judged = replace(first, held_out=held_out)
    assert held_out_further(judged, threes_and_eights, RunContext(), again) is judged


@pytest.fixture(scope="module")
def two_a_class(tmp_path_factory):
    images, labels = digits()
    return pack(images[:400], labels[:400], tmp_path_factory.mktemp("two"), labels_per_class=2)


def test_what_is_fitted_in_an_instant_is_judged_where_trainings_are_with_as_little_to_learn_from(two_a_class):
    parts, every = judging_parts(two_a_class, RunContext()), LabelledDataset(two_a_class).split("train")
    assert [part.counts["train"] for part in parts] == [10, 10]
    assert sorted(id for part in parts for id in part.split("val").ids) == sorted(every.ids)
    for part, (learned, held_out) in zip(parts, judging_rows(two_a_class, RunContext()), strict=True):
        assert every.ids[learned].tolist() == part.split("train").ids.tolist()
        assert every.ids[held_out].tolist() == part.split("val").ids.tolist()


@pytest.mark.parametrize("asked", [{"refit": False}, {"cross_validate": False}])
def test_it_is_judged_by_cross_validation_where_a_run_asks_for_one_training_alone(two_a_class, asked):
    assert judging_parts(two_a_class, RunContext(**asked)) == []


def test_it_is_judged_by_cross_validation_where_trainings_learn_from_as_much(tmp_path):
    images, labels = digits()
    assert judging_parts(pack(images[:600], labels[:600], tmp_path, labels_per_class=5), RunContext()) == []
