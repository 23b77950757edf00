"""A contender chooses on held-out samples and then learns from all labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.data.labelled import LabelledDataset
from headstart.storage.state import State
from headstart.training.context import RunContext
from headstart.training.refit import all_labels, refit, refitted
from headstart.training.supervised import fit


def weights(bundle):
    return {name: value.clone() for name, value in bundle.network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_refit_is_the_same_training_on_training_and_validation_samples(threes_and_eights, untrained, plan):
    settings = plan(threes_and_eights, epochs=3)
    chosen = fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext())
    bundle, labelled = untrained(threes_and_eights), LabelledDataset(threes_and_eights)
    refit(bundle, labelled, settings, RunContext(), chosen)
    expected = untrained(threes_and_eights)
    fit(expected, labelled, settings, RunContext())
    assert same(weights(bundle), weights(expected))
    assert not same(weights(bundle), weights(chosen.bundle))


def test_it_stops_after_the_chosen_epoch_of_the_same_schedule(threes_and_eights, untrained, plan):
    settings, labelled = plan(threes_and_eights, epochs=5, optimizer="sgd"), LabelledDataset(threes_and_eights)
    chosen = fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext())
    seen = []

    def look(label, done, total, note=""):
        seen.append((label, done, total, weights(bundle)))

    bundle = untrained(threes_and_eights)
    fit(bundle, labelled, settings, RunContext(progress=look))
    of_epochs = [each[3] for each in seen]
    bundle = untrained(threes_and_eights)
    seen.clear()
    refit(bundle, labelled, settings, RunContext(progress=look), replace(chosen, best_epoch=2))
    assert same(weights(bundle), of_epochs[1])
    assert [each[:3] for each in seen] == [("training, all labels", 1, 2), ("training, all labels", 2, 2)]


def test_epoch_0_leaves_the_start(threes_and_eights, untrained, plan):
    settings = plan(threes_and_eights)
    chosen = fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext())
    bundle = untrained(threes_and_eights)
    refit(bundle, LabelledDataset(threes_and_eights), settings, RunContext(), replace(chosen, best_epoch=0))
    assert same(weights(bundle), weights(untrained(threes_and_eights)))


def test_what_is_told_of_a_refitted_model_comes_from_the_training_that_chose(threes_and_eights, untrained, plan):
    told = []
    context = RunContext(on_epoch=lambda epoch, _: told.append(epoch))
    settings, labelled = plan(threes_and_eights), LabelledDataset(threes_and_eights)
    chosen = fit(untrained(threes_and_eights), threes_and_eights, settings, context)
    bundle = untrained(threes_and_eights)
    refit(bundle, labelled, settings, context, chosen)
    result = refitted(bundle, labelled, chosen)
    assert told == [0, 1, 2]
    assert result.bundle.temperature == chosen.bundle.temperature == result.params["temperature"]
    assert (result.validation, result.history) == (chosen.validation, chosen.history)
    assert set(result.held_out.ids) == set(threes_and_eights.split("val").ids)
    assert result.params["labels"] == result.bundle.provenance["labels"] == labelled.counts["train"]


def test_a_refit_that_is_interrupted_goes_on_to_the_same_bits(
    threes_and_eights, untrained, plan, tmp_path, monkeypatch
):
    monkeypatch.setenv("HEADSTART_CHECKPOINT_SECONDS", "0")
    settings, labelled = plan(threes_and_eights, epochs=3), LabelledDataset(threes_and_eights)

    def both(state, progress=None):
        context = RunContext(state=state, progress=progress)
        chosen = fit(untrained(threes_and_eights), threes_and_eights, settings, context)
        bundle = untrained(threes_and_eights)
        refit(bundle, labelled, settings, context, chosen)
        return weights(bundle)

    def stop(label, done, total, note=""):
        if label == "training, all labels" and done == 2:
            raise RuntimeError

    state = State(str(tmp_path))
    expected = both(None)
    with pytest.raises(RuntimeError):
        both(state, stop)
    assert same(both(state), expected)
    # The training that chose and this one are two, each with its own checkpoint.
    assert len(list(state.names("checkpoints/"))) == 2


@pytest.mark.parametrize(("train", "val", "learned"), [(90, 10, True), (91, 9, False), (5, 0, False), (40, 10, True)])
def test_validation_is_learned_from_where_it_holds_a_tenth_of_the_labels(threes_and_eights, train, val, learned):
    splits = {name: {**entry} for name, entry in threes_and_eights.manifest["splits"].items()}
    splits["train"]["samples"], splits["val"]["samples"] = train, val
    dataset = type(threes_and_eights)(threes_and_eights.path, {**threes_and_eights.manifest, "splits": splits})
    found = all_labels(dataset, RunContext())
    assert (found is not None) == learned
    assert all_labels(dataset, RunContext(refit=False)) is None


def test_a_start_that_is_a_model_is_judged_beside_what_training_makes_of_it(threes_and_eights, untrained, plan):
    settings = plan(threes_and_eights, epochs=6, learning_rate=0.01)
    good = fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext()).bundle
    good.network.requires_grad_(True)
    expected = good.predict_logits(threes_and_eights.split("val").samples).argmax(1)
    ruinous = replace(settings, optimizer="sgd", learning_rate=5.0, epochs=1, clip=1.0)
    ruined = fit(good, threes_and_eights, replace(ruinous, judges_start=True), RunContext(seed=1))
    assert ruined.best_epoch == 1
    assert ruined.start.predictions.predicted.tolist() == expected.tolist()
    assert ruined.start.predictions.ids.tolist() == ruined.held_out.ids.tolist()
    assert ruined.start.predictions.score("accuracy") > ruined.held_out.score("accuracy") == ruined.validation
    assert fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext()).start is None


def test_without_validation_samples_training_goes_to_its_end(threes_and_eights, untrained, plan):
    labelled, told = LabelledDataset(threes_and_eights), []
    context = RunContext(on_epoch=lambda epoch, metrics: told.append((epoch, list(metrics))))
    fitted = fit(untrained(threes_and_eights), labelled, plan(threes_and_eights, epochs=3, patience=1), context)
    assert fitted.best_epoch == 3
    assert np.isnan(fitted.validation)
    assert fitted.held_out is None
    assert told == [(1, ["train/loss"]), (2, ["train/loss"]), (3, ["train/loss"])]
