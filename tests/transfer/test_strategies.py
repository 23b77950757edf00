import copy
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from headstart.config import Strategy, Training
from headstart.errors import InputError
from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.metrics import score
from headstart.transfer.probe import logistic_probe
from headstart.transfer.strategies import transfer
from headstart.version import __version__

EVERY_KIND = [
    "zero",
    "partial",
    {"name": "constant", "transfer": "full", "schedule": "constant"},
    {"name": "probed", "transfer": "full", "schedule": "lp_ft"},
    {"name": "held", "transfer": "full", "regularizer": "l2_sp", "strength": 0.1},
]
THAT_TRAIN = EVERY_KIND[1:]

# A step too small to move a weight by anything that shows: what is left is what training started from.
STANDING = {"learning_rate": 1e-12, "weight_decay": 0.0}


def name_of(strategy) -> str:
    return strategy if isinstance(strategy, str) else strategy["name"]


def weights(bundle, part="") -> dict[str, torch.Tensor]:
    state = bundle.network.state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith(part)}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def distance(bundle, source) -> float:
    """How far the stages' weights are from the source's."""
    there = dict(source.network.stages.named_parameters())
    squares = [(p - there[n]).square().sum().item() for n, p in bundle.network.stages.named_parameters()]
    return float(np.sqrt(sum(squares)))


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_a_transfer_changes_nothing_of_the_source(source, renamed, carry, strategy):
    before, original = weights(source), copy.deepcopy(source)
    carry(source, renamed, strategy)
    assert same(weights(source), before)
    assert (source.classes, source.provenance) == (original.classes, original.provenance)
    assert all(parameter.requires_grad for parameter in source.network.parameters())
    assert source.network.frozen_stages == 0


@pytest.mark.parametrize("frozen", [1, 3, 5])
def test_a_partial_transfer_leaves_frozen_stages_as_they_are_to_the_bit_and_moves_all_others(
    source, renamed, carry, frozen
):
    result = carry(source, renamed, {"transfer": "partial", "freeze": frozen}, weight_decay=0.5, augmentation="affine")
    before, after = weights(source, "stages."), weights(result.bundle, "stages.")
    kept = tuple(f"stages.{stage}." for stage in range(frozen))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith(kept)}
    # Both halves of the promise are about weights and about batch-norm statistics.
    names = " ".join(name for name in before if name.startswith(kept))
    assert "weight" in names
    assert "running_mean" in names
    assert frozen == 5 or any("running_var" in name for name in moved)


def test_a_partial_transfer_keeps_half_of_the_stages_unless_told_otherwise(source, renamed, carry):
    result = carry(source, renamed, "partial")
    kept = [
        same(weights(source, f"stages.{stage}."), weights(result.bundle, f"stages.{stage}."))
        for stage in range(len(source.network.stages))
    ]
    assert kept == [True, True, True, False, False]


def test_a_partial_transfer_starts_from_a_new_head(source, known, carry):
    result = carry(source, known, {"transfer": "partial", "freeze": 5}, **STANDING)
    assert result.bundle.network.head.weight.abs().max() < 0.1
    assert source.network.head.weight.abs().max() > 0.1


def test_more_stages_cannot_be_frozen_than_there_are(source, renamed, carry):
    with pytest.raises(InputError, match=r"strategies.deep.freeze is 6, but convnet has 5 stages"):
        carry(source, renamed, {"name": "deep", "transfer": "partial", "freeze": 6})


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_what_comes_out_is_a_whole_model_for_the_target(source, renamed, carry, strategy):
    result = carry(source, renamed, strategy)
    network = result.bundle.network
    assert result.bundle.classes == renamed.classes == ("eight", "five", "three")
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not network.training
    val = renamed.split("val")
    predictions = result.bundle.predict_logits(val.samples).argmax(1)
    assert result.validation == score("accuracy", val.labels, predictions, 3)
    assert result.seconds > 0
    assert (result.fit is None) == (result.plan is None) == (name_of(strategy) == "zero")


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_a_source_gives_a_head_start(source, renamed, carry, strategy):
    assert carry(source, renamed, strategy, epochs=4).validation >= 0.8


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_one_seed_gives_the_same_metrics_and_the_same_bundle(source, renamed, carry, tmp_path, strategy):
    outcomes = []
    for noise in (5, 6):
        torch.manual_seed(noise)
        result = carry(source, renamed, strategy, seed=1, augmentation="affine")
        outcomes.append((result.validation, result.fit and result.fit.history, result.bundle.save(tmp_path / "bundle")))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("strategy", THAT_TRAIN, ids=name_of)
def test_another_seed_gives_another_training(source, renamed, carry, strategy):
    one, other = (carry(source, renamed, strategy, seed=seed) for seed in (1, 2))
    assert [epoch["train/loss"] for epoch in one.fit.history] != [epoch["train/loss"] for epoch in other.fit.history]
    assert not same(weights(one.bundle, "head."), weights(other.bundle, "head."))


def test_the_seed_also_decides_a_new_head(source, renamed, carry):
    one, other = (carry(source, renamed, "partial", seed=seed, **STANDING) for seed in (1, 2))
    assert not torch.allclose(one.bundle.network.head.weight, other.bundle.network.head.weight, atol=1e-4)


def test_zero_takes_the_sources_head_for_classes_that_it_knows_whatever_their_order(source, relabelled, known, carry):
    samples = known.split("test").samples
    rows = [source.classes.index(name) for name in known.classes]
    expected = source.predict_logits(samples)[:, rows]
    for start in (source, relabelled):
        result = carry(start, known, "zero")
        assert np.allclose(result.bundle.predict_logits(samples), expected, atol=1e-4)


def test_a_head_follows_the_names_and_not_the_positions(source, known, carry):
    # A source that calls a 3 a 5 and a 5 a 3 says so of the target's pictures too.
    swapped = replace(source, classes=tuple({"5": "3", "3": "5"}.get(name, name) for name in source.classes))
    samples = known.split("test").samples
    plain, other = (carry(start, known, "zero").bundle.predict_logits(samples) for start in (source, swapped))
    assert known.classes == ("3", "5", "8")
    assert np.allclose(other, plain[:, [1, 0, 2]], atol=1e-4)


@pytest.mark.parametrize("reason", ["other names", "one other name", "no trained head"])
def test_zero_takes_the_nearest_prototype_elsewhere(source, known, renamed, carry, reason):
    dataset = renamed if reason == "other names" else known
    if reason == "one other name":
        source = replace(source, classes=tuple("five" if name == "5" else name for name in source.classes))
    if reason == "no trained head":
        # A head that means nothing, as one that was made for the architecture's sake does.
        source = replace(source, provenance={**source.provenance, "head": "none"})
        torch.nn.init.normal_(source.network.head.weight)
    bundle = carry(source, dataset, "zero").bundle
    train, test = dataset.split("train"), dataset.split("test")
    centroids = NearestCentroid().fit(source.predict_features(train.samples), train.labels)
    expected = centroids.predict(source.predict_features(test.samples))
    assert bundle.predict_logits(test.samples).argmax(1).tolist() == expected.tolist()


def test_zero_trains_no_stage(source, known, renamed, carry):
    for dataset in (known, renamed):
        assert same(weights(carry(source, dataset, "zero").bundle, "stages."), weights(source, "stages."))


def test_zero_fits_no_temperature_and_keeps_the_sources_where_it_keeps_its_head(source, known, renamed, carry):
    assert source.temperature != 1.0
    assert carry(source, known, "zero").bundle.temperature == source.temperature
    assert carry(source, renamed, "zero").bundle.temperature == 1.0


@pytest.mark.parametrize("strategy", THAT_TRAIN, ids=name_of)
def test_what_is_trained_has_a_temperature_of_its_own(source, known, carry, strategy):
    result, val = carry(source, known, strategy), known.split("val")
    fitted = fit_temperature(result.bundle.predict_logits(val.samples), val.labels)
    assert result.bundle.temperature == result.fit.temperature == fitted != source.temperature


def test_zero_needs_no_more_than_one_sample_a_class(source, single, carry):
    assert single.counts["train"] == 2
    assert carry(source, single, "zero").validation >= 0.7


def test_full_at_a_constant_rate_starts_from_the_sources_head_where_it_knows_the_classes(
    source, relabelled, known, renamed, carry
):
    strategy = {"transfer": "full", "schedule": "constant"}
    rows = [source.classes.index(name) for name in known.classes]
    for start in (source, relabelled):
        head = carry(start, known, strategy, **STANDING).bundle.network.head
        assert torch.allclose(head.weight, source.network.head.weight[rows], atol=1e-6)
        assert torch.allclose(head.bias, source.network.head.bias[rows], atol=1e-6)
    assert carry(source, renamed, strategy, **STANDING).bundle.network.head.weight.abs().max() < 0.1


def test_full_with_a_probe_first_starts_from_the_probe(source, renamed, carry):
    head = carry(source, renamed, {"transfer": "full", "schedule": "lp_ft"}, **STANDING).bundle.network.head
    train, val = renamed.split("train"), renamed.split("val")
    features, val_features = source.predict_features(train.samples), source.predict_features(val.samples)
    probe = logistic_probe(features, train.labels, val_features, val.labels, classes=3, metric="accuracy")
    assert np.allclose(head.weight.detach(), probe.weight, atol=1e-6)
    assert np.allclose(head.bias.detach(), probe.bias, atol=1e-6)


@pytest.mark.parametrize("strategy", THAT_TRAIN[1:], ids=name_of)
def test_full_moves_every_weight(source, renamed, carry, strategy):
    before, after = weights(source, "stages."), weights(carry(source, renamed, strategy).bundle, "stages.")
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["full", "partial"])
def test_a_strong_pull_to_the_source_keeps_the_stages_there_and_no_pull_does_not(source, renamed, carry, kind):
    training = {"optimizer": "sgd", "learning_rate": 0.01, "epochs": 4}
    free = carry(source, renamed, {"transfer": kind}, **training)
    strategy = {"transfer": kind, "regularizer": "l2_sp", "strength": 50.0}
    held = carry(source, renamed, strategy, **training)
    assert distance(free.bundle, source) > 0.1
    assert distance(held.bundle, source) < 0.02 * distance(free.bundle, source)


def test_a_pull_to_zero_shrinks_the_weights_and_takes_the_place_of_weight_decay(source, renamed, carry):
    training = {"optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 0.3, "epochs": 8}
    strategy = {"transfer": "full", "schedule": "constant", "regularizer": "l2", "strength": 0.2}
    shrunk = carry(source, renamed, strategy, **training)
    assert shrunk.fit.best_epoch > 0
    size = sum(p.norm().item() for p in shrunk.bundle.network.stages.parameters())
    assert size < 0.9 * sum(p.norm().item() for p in source.network.stages.parameters())
    assert shrunk.plan.weight_decay == 0.0
    assert carry(source, renamed, "full", **training).plan.weight_decay == 0.3


def test_a_regularizer_of_strength_zero_is_none(source, renamed, carry):
    plain = carry(source, renamed, "full", weight_decay=0.0)
    for regularizer in ("l2", "l2_sp"):
        strategy = {"name": "full", "transfer": "full", "regularizer": regularizer, "strength": 0.0}
        assert carry(source, renamed, strategy, weight_decay=0.0).fit.history == plain.fit.history


def test_a_strategys_own_budget_goes_before_the_recipes(source, renamed, carry):
    strategy = {"transfer": "full", "epochs": 3, "learning_rate": 0.002}
    result = carry(source, renamed, strategy, epochs=1, learning_rate=0.5)
    assert (result.plan.epochs, result.plan.learning_rate) == (3, 0.002)
    assert len(result.fit.history) == 3


def test_the_model_says_where_it_comes_from(source, renamed):
    section = Strategy(name="mine", transfer="zero")
    result = transfer(source, renamed, section, training=Training(), seed=7, reference="models:/a/1", digest="sha256:1")
    assert result.bundle.provenance == {
        "role": "target",
        "strategy": "mine",
        "data_digest": renamed.digest,
        "train_digest": renamed.split_digest("train"),
        "source": "models:/a/1",
        "source_digest": "sha256:1",
        "seed": 7,
        "head": "trained",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "headstart": __version__},
    }


def test_epochs_are_told_and_progress_is_named_after_the_strategy(source, renamed):
    told, seen = [], set()
    result = transfer(
        source,
        renamed,
        Strategy.of({"name": "mine", "transfer": "full"}),
        training=Training(epochs=2),
        metric="macro_f1",
        on_epoch=lambda epoch, metrics: told.append(metrics["val/macro_f1"]),
        progress=lambda label, done, total, note="": seen.add(label),
    )
    # The first is the start.
    assert told[1:] == [epoch["val/macro_f1"] for epoch in result.bundle.provenance["history"]]
    assert len(told) == 3
    assert seen == {"mine"}


def test_a_source_of_another_modality_is_refused(source, renamed, carry):
    with pytest.raises(InputError, match="The source reads text and the target is image"):
        carry(replace(source, modality="text"), renamed, "zero")
