from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from headstart.errors import HeadstartError, InputError
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.tally import score
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.schedule import warmup_cosine
from headstart.training.section import Training
from headstart.training.supervised import fit


def validation(bundle, dataset, metric="accuracy"):
    """The metric on the validation split with the weights that the bundle has now."""
    split = dataset.split("val")
    return score(metric, split.labels, bundle.predict_logits(split.samples).argmax(1), len(dataset.classes))


def weights(bundle):
    return {name: value.clone() for name, value in bundle.network.state_dict().items()}


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def ruined_after(steps, strength):
    """A penalty that is nothing for so many steps and then drives all weights to 0."""
    taken = 0

    def penalty(network, inputs, outputs, start):
        nonlocal taken
        taken += 1
        return (strength if taken > steps else 0.0) * sum(p.square().sum() for p in network.parameters())

    return penalty


def test_training_learns_what_tells_the_classes_apart(threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    before = validation(bundle, threes_and_eights)
    fitted = fit(bundle, threes_and_eights, plan(threes_and_eights, epochs=8), RunContext())
    assert fitted.validation >= 0.9 > before
    assert fitted.history[-1]["train/loss"] < 0.5 * fitted.history[0]["train/loss"]


@pytest.mark.parametrize("momentum", [0.0003, None])
def test_batch_norms_of_every_architecture_follow_a_short_training(momentum, threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    for module in bundle.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = momentum
    assert fit(bundle, threes_and_eights, plan(threes_and_eights, epochs=8), RunContext()).validation >= 0.9


def test_the_history_has_one_entry_an_epoch_and_each_is_told_as_it_comes_after_the_start(
    threes_and_eights, untrained, plan
):
    told = []
    fitted = fit(
        untrained(threes_and_eights),
        threes_and_eights,
        plan(threes_and_eights, epochs=3),
        RunContext(metric="macro_f1", on_epoch=lambda epoch, metrics: told.append({"epoch": epoch, **metrics})),
    )
    assert [entry["epoch"] for entry in fitted.history] == [1, 2, 3]
    assert all(list(entry) == ["epoch", "train/loss", "val/loss", "val/macro_f1"] for entry in fitted.history)
    start, *epochs = told
    assert list(start) == ["epoch", "val/loss", "val/macro_f1"]
    assert start["epoch"] == 0
    assert epochs == fitted.history


def test_one_seed_gives_one_training_and_another_seed_another(threes_and_eights, untrained, plan):
    def run(seed, noise):
        bundle = untrained(threes_and_eights)
        bundle.network.dropout.p = 0.3
        torch.manual_seed(noise)
        settings = plan(threes_and_eights, augmentation="affine", batch_size=8)
        return fit(bundle, threes_and_eights, settings, RunContext(seed=seed)).history, weights(bundle)

    (history, trained), (again, trained_again), (other, _) = run(1, noise=5), run(1, noise=6), run(2, noise=5)
    assert again == history
    assert same(trained, trained_again)
    assert [entry["train/loss"] for entry in other] != [entry["train/loss"] for entry in history]


@pytest.fixture
def few_choose(monkeypatch):
    """As few samples as these tests train on choose an epoch."""
    monkeypatch.setattr("headstart.training.engine.ENOUGH_TO_CHOOSE", 1)


def test_fewer_than_a_hundred_samples_choose_no_epoch(threes_and_eights, untrained, plan, monkeypatch):
    settings = plan(threes_and_eights, epochs=6, patience=1, optimizer="sgd", learning_rate=0.05)

    def ruined():
        ruin = ruined_after(0, strength=5.0)
        return fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext(), penalty=ruin)

    assert threes_and_eights.counts["val"] < 100
    to_the_end = ruined()
    assert len(to_the_end.history) == to_the_end.best_epoch == 6
    assert to_the_end.validation == to_the_end.history[-1]["val/accuracy"]
    monkeypatch.setattr("headstart.training.engine.ENOUGH_TO_CHOOSE", threes_and_eights.counts["val"])
    assert len(ruined().history) < 6


def test_training_ends_early_and_goes_back_to_the_best_epoch(threes_and_eights, untrained, plan, few_choose):
    bundle = untrained(threes_and_eights)
    settings = plan(threes_and_eights, epochs=20, patience=6, optimizer="sgd", learning_rate=0.05)
    steps_per_epoch = -(-threes_and_eights.counts["train"] // settings.batch_size)
    ruin = ruined_after(3 * steps_per_epoch, strength=5.0)
    fitted = fit(bundle, threes_and_eights, settings, RunContext(), penalty=ruin)
    reached = [entry["val/accuracy"] for entry in fitted.history]
    assert len(reached) == fitted.best_epoch + 6 < 20
    assert fitted.best_epoch <= 3
    assert fitted.validation == max(reached) == reached[fitted.best_epoch - 1] > reached[-1]
    # The statistics of the batch norms too are those of the best epoch, or this would not hold.
    split = threes_and_eights.split("val")
    logits = torch.from_numpy(bundle.predict_logits(split.samples))
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(split.labels)))
    assert loss == fitted.history[fitted.best_epoch - 1]["val/loss"]
    assert validation(bundle, threes_and_eights) == fitted.validation
    assert not bundle.network.training


def test_the_weights_that_are_kept_are_calibrated_on_the_validation_split(threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    fitted = fit(bundle, threes_and_eights, plan(threes_and_eights, epochs=8), RunContext())
    val = threes_and_eights.split("val")
    temperature = fit_temperature(bundle.predict_logits(val.samples), val.labels)
    assert bundle.temperature == fitted.params["temperature"] == temperature != 1.0


def test_the_last_epoch_is_kept_where_so_few_samples_cannot_tell_it_from_the_best(
    rare_and_common, untrained, plan, few_choose
):
    count = rare_and_common.counts["val"]
    settings = plan(rare_and_common, epochs=6, learning_rate=0.01)
    gaps = []
    for seed in range(4):
        bundle = untrained(rare_and_common)
        fitted = fit(bundle, rare_and_common, settings, RunContext(seed=seed))
        ranks = [(entry["val/accuracy"], -entry["val/loss"]) for entry in fitted.history]
        best, last = max(ranks)[0], ranks[-1][0]
        share = ((best + last) / 2 * count + 1) / (count + 2)
        error = (2 * share * (1 - share) / count) ** 0.5
        kept = len(ranks) if best - last <= error else ranks.index(max(ranks)) + 1
        assert (fitted.best_epoch, fitted.validation) == (kept, ranks[kept - 1][0])
        assert validation(bundle, rare_and_common) == fitted.validation
        gaps.append((best - last) / error)
    # Both cases are among these.
    assert any(0 < gap <= 1 for gap in gaps)
    assert any(gap > 1 for gap in gaps)


def test_progress_ends_at_its_total_also_when_training_ends_early(threes_and_eights, untrained, plan, few_choose):
    seen = []
    fitted = fit(
        untrained(threes_and_eights),
        threes_and_eights,
        plan(threes_and_eights, epochs=20, patience=1),
        RunContext(progress=lambda label, done, total, note="": seen.append((label, done, total))),
        penalty=ruined_after(0, strength=1.0),
        name="full",
    )
    assert len(seen) == len(fitted.history) < 20
    assert seen[-1] == ("full", 20, 20)


def test_frozen_stages_do_not_move_and_the_others_do(threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    bundle.network.freeze(2)
    before = weights(bundle)
    settings = plan(threes_and_eights, weight_decay=1.0, epochs=20, patience=20)
    assert fit(bundle, threes_and_eights, settings, RunContext()).best_epoch > 0
    after = weights(bundle)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith(("stages.0.", "stages.1."))}


def test_the_learning_rate_rises_linearly_and_then_falls_as_half_a_cosine():
    factor = warmup_cosine(100, 0.1)
    rise = [factor(step) for step in range(10)]
    fall = [factor(step) for step in range(10, 101)]
    assert rise == pytest.approx(np.linspace(0.1, 1.0, 10))
    assert fall == pytest.approx(0.5 * (1 + np.cos(np.pi * np.arange(91) / 90)))
    assert (fall[0], fall[45], fall[90]) == pytest.approx((1.0, 0.5, 0.0))


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_no_step_of_the_schedule_is_wasted_and_none_overshoots(steps, warmup):
    factors = [warmup_cosine(steps, warmup)(step) for step in range(steps)]
    assert max(factors) <= 1
    assert min(factors) > 0


@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_step_takes_the_rate_that_the_schedule_gives(threes_and_eights, untrained, plan, batch_size):
    """With a constant gradient, a step of Adam is the learning rate itself (Kingma and Ba 2015, section 2.1)."""
    settings = plan(threes_and_eights, learning_rate=0.01, warmup=0.25, batch_size=batch_size)
    bundle = untrained(threes_and_eights)
    # The same push on every logit changes no probability, so that the training is not disturbed by it.
    places = []

    def push(network, inputs, outputs, start):
        places.append(float(network.head.bias.detach()[0]))
        return 1e6 * network.head.bias.sum()

    fit(bundle, threes_and_eights, settings, RunContext(), penalty=push)
    factor = warmup_cosine(len(places), 0.25)
    expected = [0.01 * factor(step) for step in range(len(places) - 1)]
    assert -np.diff(places) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def share_of_rare(dataset, untrained, settings):
    """The mean probability of the rare class at the end of a training of the head alone."""
    bundle = untrained(dataset)
    bundle.network.freeze(len(bundle.network.stages))
    shares = []

    def look(epoch, metrics):
        probabilities = bundle.predict_probabilities(dataset.split("train").samples)
        shares.append(probabilities[:, dataset.classes.index("rare")].mean())

    # Held near 0, the weights cannot learn single pictures by heart; the bias is left to say how frequent a class is.
    fit(
        bundle,
        dataset,
        settings,
        RunContext(on_epoch=look),
        penalty=lambda network, *_: 100 * network.head.weight.square().sum(),
    )
    return shares[-1]


def test_class_weights_give_a_rare_class_the_say_of_a_common_one(rare_and_common, untrained, plan):
    settings = {"epochs": 15, "learning_rate": 0.1, "batch_size": 64, "patience": 15}
    plain = share_of_rare(rare_and_common, untrained, plan(rare_and_common, class_weights="none", **settings))
    weighed = share_of_rare(rare_and_common, untrained, plan(rare_and_common, class_weights="auto", **settings))
    frequency = np.mean(rare_and_common.split("train").labels == rare_and_common.classes.index("rare"))
    assert plain == pytest.approx(frequency, abs=0.08)
    assert weighed == pytest.approx(0.5, abs=0.08)


def test_label_smoothing_keeps_the_model_from_certainty(threes_and_eights, untrained, plan):
    def certainty(smoothing):
        bundle = untrained(threes_and_eights)
        settings = plan(threes_and_eights, epochs=8, label_smoothing=smoothing)
        fit(bundle, threes_and_eights, settings, RunContext())
        logits = bundle.predict_logits(threes_and_eights.split("train").samples)
        return torch.softmax(torch.from_numpy(logits), dim=1).amax(dim=1).mean()

    assert certainty(0.4) < certainty(0.0) - 0.1


def test_weight_decay_pulls_on_matrices_and_on_no_bias_or_scale(threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    network = bundle.network
    with torch.no_grad():
        network.head.bias.fill_(1000.0)
        network.head.weight.fill_(1000.0)
    settings = plan(threes_and_eights, epochs=4, learning_rate=0.1, weight_decay=1.0, patience=4)
    ends = []

    def look(epoch, metrics):
        ends.append((network.head.bias.mean().item(), network.head.weight.mean().item()))

    fit(bundle, threes_and_eights, settings, RunContext(on_epoch=look))
    # 24 steps at up to 0.1 move a weight by 2.4 at most; decay takes away a share of it in each.
    bias, weight = ends[-1]
    assert bias == pytest.approx(1000.0, abs=3)
    assert weight < 500


@pytest.mark.parametrize("batch_size", [8, 64])
def test_a_loss_that_diverges_is_one_clear_error(threes_and_eights, untrained, plan, batch_size):
    # With all samples in one batch, the loss of the only step is still that of the weights before it.
    settings = plan(threes_and_eights, epochs=1, batch_size=batch_size, learning_rate=0.25)
    with pytest.raises(HeadstartError, match=r"full: the loss became .* in epoch 1; lower learning_rate \(it was 0.25"):
        fit(
            untrained(threes_and_eights),
            threes_and_eights,
            settings,
            RunContext(),
            penalty=lambda network, *_: float("inf") * network.head.weight.sum(),
            name="full",
        )


def test_a_start_that_training_only_makes_worse_is_kept(threes_and_eights, untrained, plan, few_choose):
    bundle = untrained(threes_and_eights)
    fit(bundle, threes_and_eights, plan(threes_and_eights, epochs=8), RunContext())
    start, reached = weights(bundle), validation(bundle, threes_and_eights)
    ruin = ruined_after(0, strength=5.0)
    settings = plan(threes_and_eights, epochs=4, optimizer="sgd", learning_rate=0.05)
    again = fit(bundle, threes_and_eights, settings, RunContext(), penalty=ruin)
    assert again.best_epoch == 0
    assert again.validation == reached > again.history[-1]["val/accuracy"]
    assert same(start, weights(bundle))


def test_an_average_of_the_weights_is_validated_and_kept(threes_and_eights, untrained, plan):
    def run(ema):
        bundle = untrained(threes_and_eights)
        last = {}
        fitted = fit(
            bundle,
            threes_and_eights,
            plan(threes_and_eights, epochs=6, ema=ema, learning_rate=0.02),
            RunContext(on_epoch=lambda epoch, metrics: last.update(weights(bundle))),
        )
        return bundle, fitted, last

    bundle, fitted, last = run(ema=0.9)
    _, plain, plain_last = run(ema=None)
    # The average follows the weights and is none of them, and the weights themselves are trained on as without it.
    assert same(last, plain_last)
    assert [e["train/loss"] for e in fitted.history] == [e["train/loss"] for e in plain.history]
    assert [e["val/loss"] for e in fitted.history] != [e["val/loss"] for e in plain.history]
    assert not same(weights(bundle), last)
    assert fitted.history[fitted.best_epoch - 1]["val/accuracy"] == validation(bundle, threes_and_eights)


def test_micro_batches_make_the_step_of_the_whole_batch(threes_and_eights, untrained, plan):
    """For a network without batch norm, whose statistics are those of a micro-batch."""

    def run(accumulate, **settings):
        bundle = untrained(threes_and_eights)
        bundle.network.freeze(len(bundle.network.stages))
        settings = plan(threes_and_eights, batch_size=16, accumulate=accumulate, epochs=3, **settings)
        return fit(bundle, threes_and_eights, settings, RunContext()).history

    for settings in ({"label_smoothing": 0.1}, {"class_weights": "balanced", "augmentation": "affine"}):
        whole, parts = run(1, **settings), run(3, **settings)
        for one, other in zip(whole, parts, strict=True):
            assert other == pytest.approx(one, rel=1e-4)


def test_a_batch_that_has_too_few_samples_for_its_micro_batches_is_refused(threes_and_eights, untrained, plan):
    settings = plan(threes_and_eights, batch_size=4, accumulate=8)
    with pytest.raises(InputError, match="a batch of 3 samples cannot be shared by 1 processes with 8 micro-batches"):
        fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext())


def test_stages_farther_from_the_head_take_smaller_steps(threes_and_eights, untrained, plan):
    """With AdamW the first step of each weight is its group's learning rate."""
    bundle = untrained(threes_and_eights)
    values = Training.of({"augmentation": "none", "epochs": 1, "learning_rate": 1e-3, "warmup": 0.0, "weight_decay": 0})
    labels = threes_and_eights.split("train").labels
    settings = replace(make_plan(values, labels, pretrained=True, layer_decay=0.5), batch_size=len(labels))
    before, after = weights(bundle), {}
    fit(bundle, threes_and_eights, settings, RunContext(on_epoch=lambda epoch, metrics: after.update(weights(bundle))))
    steps = {
        stage: max(
            (after[key] - before[key]).abs().max().item() for key in after if key.startswith(stage) and "weight" in key
        )
        for stage in ("stages.0.", "stages.2.", "stages.4.", "head.")
    }
    expected = {"stages.0.": 1e-3 / 32, "stages.2.": 1e-3 / 8, "stages.4.": 1e-3 / 2, "head.": 1e-3}
    assert steps == pytest.approx(expected, rel=0.01)


def test_gradual_unfreezing_moves_one_stage_more_at_a_time(threes_and_eights, untrained, plan):
    bundle = untrained(threes_and_eights)
    stages = len(bundle.network.stages)
    values = Training.of({"augmentation": "none", "epochs": 2 * stages, "batch_size": 8})
    settings = make_plan(values, threes_and_eights.split("train").labels, pretrained=True, gradual_stages=stages)
    seen = []
    fit(bundle, threes_and_eights, settings, RunContext(on_epoch=lambda epoch, metrics: seen.append(weights(bundle))))
    for epoch, (before, after) in enumerate(pairwise(seen), start=1):
        moved = {key.split(".")[1] for key in after if "stages." in key and not torch.equal(before[key], after[key])}
        assert moved == {str(stage) for stage in range(settings.frozen(stages, epoch), stages)}


def test_a_training_says_how_it_was_computed(threes_and_eights, untrained, plan):
    settings = plan(threes_and_eights, precision="fp32", layout="channels_last", compile="off")
    fitted = fit(untrained(threes_and_eights), threes_and_eights, settings, RunContext())
    expected = {"precision": "fp32", "layout": "channels_last", "compiled": False, "processes": 1}
    assert expected.items() <= fitted.params.items()
