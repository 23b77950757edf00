import copy
import json
import math
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.neighbors import NearestCentroid

from headstart.data.labelled import LabelledDataset
from headstart.data.subsets import spread_out, with_every_class
from headstart.errors import InputError
from headstart.features.extraction import vectors
from headstart.features.frozen_stages import FrozenOutputs
from headstart.features.heads import best_head, class_means, ridge
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.tally import score
from headstart.metrics.tasks.single_label import SingleLabel
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.strategies import fine_tuning, task
from headstart.strategies import schedule as schedule_rule
from headstart.strategies.methods import surgical as surgery
from headstart.strategies.section import STRATEGIES, Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.held_out import judging_rows
from headstart.training.section import Training
from headstart.training.trained import Trained
from headstart.version import __version__
from headstart_pipelines.demo import digits
from tests.sources import pack

# Every word of a recipe, and what has none. The networks that come of `distill` and `int8` are other ones:
# test_distillation.py, test_quantization.py.
EVERY_KIND = [
    *(name for name in STRATEGIES if name not in ("distill", "int8")),
    {"name": "constant", "transfer": "full", "schedule": "constant"},
    {"name": "held", "transfer": "full", "regularizer": "l2_sp", "strength": 0.1},
    {"name": "behaving", "transfer": "full", "regularizer": "delta", "strength": 0.1},
]
FITTED = ("zero", "linear_probe")
THAT_TRAIN = [kind for kind in EVERY_KIND if kind not in FITTED]
FULL = [kind for kind in THAT_TRAIN if kind not in ("partial", "surgical", "lora")]

# A step too small to move a weight by anything that shows: what is left is what training started from.
STANDING = {"learning_rate": 1e-12, "weight_decay": 0.0}


def name_of(strategy) -> str:
    return strategy if isinstance(strategy, str) else strategy["name"]


@pytest.fixture
def suited(source, transformer):
    """The source that a strategy needs: a convolutional network, for `lora` a transformer."""
    return lambda strategy: transformer if strategy == "lora" else source


def watch(patch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights at the start of the last training and after each of its epochs, whichever of them are kept."""
    seen = []
    fit = fine_tuning.fit

    def watched(bundle, dataset, plan, context, **named):
        seen.clear()
        context = replace(context, on_epoch=lambda epoch, metrics: seen.append(weights(bundle)))
        return fit(bundle, dataset, plan, context, **named)

    patch.setattr(fine_tuning, "fit", watched)
    return seen


@pytest.fixture
def epochs(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """What `watch` sees."""
    return watch(monkeypatch)


@dataclass(frozen=True)
class _Carried:
    """A transfer, the source as it was before and as it is after, and the weights after the last epoch, if any."""

    before: ModelBundle
    source: ModelBundle
    result: Trained
    end: dict[str, torch.Tensor] | None


@pytest.fixture(scope="module")
def carried(loaded_source, built_transformer, renamed, carry) -> Callable[..., _Carried]:
    """`carried(strategy, seed=0)`: its transfer of `renamed`, made once and only to be looked at."""
    made = {}

    def made_once(strategy: object, seed: int = 0) -> _Carried:
        key = name_of(strategy), seed
        if key not in made:
            before = built_transformer if strategy == "lora" else loaded_source
            source = copy.deepcopy(before)
            with pytest.MonkeyPatch.context() as patch:
                seen = watch(patch)
                result = carry(source, renamed, strategy, seed=seed, cross_validate=True)
            made[key] = _Carried(before, source, result, seen[-1] if seen else None)
        return made[key]

    return made_once


def moved(before, after) -> set[str]:
    """The names of what differs."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def stages_of(names) -> set[str]:
    return {name.split(".")[1] if name.startswith("stages.") else "head" for name in names}


def trainable(names) -> set[str]:
    """Those of what training moves while batch norms keep their statistics."""
    return {name for name in names if "running_" not in name and "num_batches" not in name}


def weights(bundle, part="") -> dict[str, torch.Tensor]:
    state = bundle.network.state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith(part)}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_a_transfer_changes_nothing_of_the_source(carried, strategy):
    before, source = carried(strategy).before, carried(strategy).source
    assert same(weights(source), weights(before))
    assert (source.classes, source.provenance) == (before.classes, before.provenance)
    assert all(parameter.requires_grad for parameter in source.network.parameters())
    assert source.network.frozen_stages == 0


@pytest.mark.parametrize("frozen", [None, 1, 3])
def test_a_partial_transfer_leaves_frozen_stages_as_they_are_to_the_bit_and_moves_all_others(
    source, renamed, carry, epochs, frozen
):
    settings = {"weight_decay": 0.5, "augmentation": "affine"}
    result = carry(source, renamed, {"transfer": "partial", "freeze": frozen}, **settings)
    # Unless told otherwise, half of the five.
    kept = tuple(f"stages.{stage}." for stage in range(frozen or 3))
    assert moved(epochs[0], epochs[-1]) == trainable(name for name in epochs[0] if not name.startswith(kept))
    for stages in kept:
        assert same(weights(result.bundle, stages), weights(source, stages))
    # The promise is about batch-norm statistics too.
    assert any("running_var" in name for name in epochs[0] if name.startswith(kept))


@pytest.mark.parametrize("schedule", ["lp_ft", "constant"])
def test_what_starts_from_a_probe_keeps_the_sources_statistics_and_a_new_head_takes_the_targets(
    source, renamed, carry, epochs, schedule
):
    carry(source, renamed, {"transfer": "full", "schedule": schedule}, augmentation="affine")
    statistics = epochs[0].keys() - trainable(epochs[0])
    assert statistics
    assert moved(epochs[0], epochs[-1]) & statistics == (set() if schedule == "lp_ft" else statistics)


@pytest.mark.parametrize("kind", ["partial", "full"])
def test_with_enough_samples_a_new_head_and_the_targets_statistics_take_the_place_of_the_probe(
    source, renamed, carry, epochs, monkeypatch, kind
):
    samples = renamed.counts["train"]
    monkeypatch.setattr(schedule_rule, "_ENOUGH", samples + 1)
    few = carry(source, renamed, kind, augmentation="affine")
    kept = epochs[0].keys() - trainable(epochs[0])
    assert few.bundle.provenance["decisions"]["head"] != "new"
    assert not moved(epochs[0], epochs[-1]) & kept
    monkeypatch.setattr(schedule_rule, "_ENOUGH", samples)
    assert carry(source, renamed, kind, augmentation="affine").bundle.provenance["decisions"] == {
        "head": "new",
        "schedule": "constant",
    }
    assert moved(epochs[0], epochs[-1]) & kept


def test_a_network_without_batch_norms_is_probed_first_however_many_samples_there_are(
    transformer, renamed, carry, monkeypatch
):
    monkeypatch.setattr(schedule_rule, "_ENOUGH", 1)
    decisions = carry(transformer, renamed, "full", epochs=1).bundle.provenance["decisions"]
    assert decisions["head"] != "new"
    assert decisions["schedule"] == "lp_ft"


@pytest.mark.parametrize("freeze", ["all", 5])
def test_with_every_stage_frozen_nothing_but_the_head_changes(source, renamed, carry, freeze):
    result = carry(source, renamed, {"transfer": "partial", "freeze": freeze}, augmentation="affine")
    assert same(weights(result.bundle, "stages."), weights(source, "stages."))
    # A linear probe is fitted, not trained.
    assert (result.history == []) == (result.best_epoch is None) == (freeze == "all")


def probe_of(source, dataset):
    """The best head on the features of a data set's training samples."""
    train = dataset.split("train")
    return best_head(vectors(source, train), train.labels, classes=3)


def test_a_linear_probe_is_the_best_head_on_the_sources_features_of_all_labels_calibrated_out_of_fold(
    source, renamed, carry
):
    result, fitted = carry(source, renamed, "linear_probe"), probe_of(source, LabelledDataset(renamed))
    test, labels = renamed.split("test"), LabelledDataset(renamed).split("train").labels
    logits = result.bundle.predict_logits(test.samples)
    temperature = fit_temperature(fitted.logits, labels)
    assert np.allclose(logits, fitted.head.logits(vectors(source, test)) / temperature, atol=1e-3)
    assert result.bundle.temperature == 1.0
    assert result.bundle.provenance["decisions"] == {"head": fitted.kind}
    assert result.validation == score("accuracy", labels, fitted.logits.argmax(1), 3)


def test_what_is_trained_from_a_fitted_head_begins_with_the_probabilities_that_suit_what_the_head_did_not_see(
    source, carry, epochs, tmp_path
):
    images, labels = digits()
    chosen = np.flatnonzero(labels < 3)[:120]
    # A fifth of the labels is wrong, so that no head is right on all.
    words = np.array(["none", "one", "two"])[np.where(np.arange(120) % 5, labels[chosen], labels[chosen][::-1])]
    dataset = pack(images[chosen], words, tmp_path)
    carry(source, dataset, "lp_ft")
    fitted, known = probe_of(source, dataset), dataset.split("train").labels
    temperature = fit_temperature(fitted.logits, known[fitted.held_out])
    assert abs(np.log(temperature)) > 0.1
    assert np.allclose(epochs[0]["head.weight"].numpy(), fitted.head.weight / temperature, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", ["linear_probe", "zero"])
def test_with_two_labels_a_class_a_head_is_judged_by_fits_that_saw_one_of_them_as_trainings_are(
    source, carry, tmp_path, strategy
):
    images, labels = digits()
    chosen = np.flatnonzero(labels < 3)[200:]
    words = np.array(["none", "one", "two"])[labels[chosen]]
    dataset = pack(images[chosen], words, tmp_path, labels_per_class=2)
    every = LabelledDataset(dataset).split("train")

    result = carry(source, dataset, strategy, cross_validate=True)

    assert sorted(result.held_out.ids) == sorted(every.ids)
    predicted = dict(zip(result.held_out.ids, result.held_out.predicted, strict=True))
    for learned, held_out in judging_rows(dataset, RunContext()):
        features = vectors(source, every)
        head = class_means(features[learned], every.labels[learned], classes=3).head
        assert [predicted[each] for each in every.ids[held_out]] == head.logits(features[held_out]).argmax(1).tolist()
    # The model has learned from all of them.
    fit = {"linear_probe": best_head, "zero": class_means}[strategy]
    whole = fit(vectors(source, every), every.labels, classes=3).head
    assert np.allclose(result.bundle.network.head.weight.detach().numpy(), whole.weight, rtol=1e-3)


def test_what_is_trained_from_one_sample_a_class_begins_with_doubt(source, carry, epochs, tmp_path):
    images, labels = digits()
    dataset = pack(images[200:400], labels[200:400], tmp_path, labels_per_class=2)
    carry(source, dataset, "lp_ft")
    train = dataset.split("train")
    logits = vectors(source, train) @ epochs[0]["head.weight"].numpy().T + epochs[0]["head.bias"].numpy()
    assert logits.argmax(1).tolist() == train.labels.tolist()
    assert 0.1 < softmax(logits, axis=1).max() < 0.9


def test_of_one_label_a_class_a_probe_is_ridge_regression_as_nothing_is_held_out(source, carry, tmp_path):
    images, labels = digits()
    dataset = pack(images[200:400], labels[200:400], tmp_path, labels_per_class=1)
    probe = carry(source, dataset, "linear_probe", cross_validate=True)
    train = dataset.split("train")
    assert np.isnan(probe.validation)
    assert probe.bundle.provenance["decisions"] == {"head": "ridge"}
    expected = ridge(vectors(source, train), train.labels, 10).logits(vectors(source, train))
    assert np.allclose(probe.bundle.predict_logits(train.samples), expected, atol=1e-3)


@pytest.mark.parametrize("strategy", ["linear_probe", "zero"])
def test_of_more_samples_than_memory_holds_a_head_is_fitted_to_a_part_with_every_class_and_says_so(
    source, renamed, carry, monkeypatch, caplog, strategy
):
    labelled = LabelledDataset(renamed).split("train")
    every, width = len(labelled.labels), source.network.feature_dim
    monkeypatch.setattr(task, "_MOST_VALUES", 40 * width)

    result = carry(source, renamed, strategy)

    part = with_every_class(labelled.labels, spread_out(labelled.labels, 40))
    assert f"The head is fitted to {len(part)} of {every} training samples" in caplog.text
    assert set(np.unique(labelled.labels[part])) == set(np.unique(labelled.labels))
    assert set(result.held_out.ids) <= set(labelled.ids[part])
    features = np.concatenate([vectors(source, split) for split in LabelledDataset(renamed).parts("train")])
    fit = {"linear_probe": best_head, "zero": class_means}[strategy]
    wanted = fit(features[part], labelled.labels[part], classes=len(renamed.classes))
    if strategy == "linear_probe":
        wanted = wanted.cooled(fit_temperature(wanted.logits, labelled.labels[part][wanted.held_out]))
    assert np.allclose(result.bundle.network.head.weight.detach().numpy(), wanted.head.weight)


def test_the_probe_that_partial_transfer_starts_from_is_told_before_frozen_stages_see_an_augmented_sample(
    source, renamed, monkeypatch
):
    augmented, told = [], []
    inputs = FrozenOutputs._inputs
    monkeypatch.setattr(FrozenOutputs, "_inputs", lambda *given: augmented.append(given[0].views) or inputs(*given))
    strategy = Strategy.model_validate({"transfer": "partial", "schedule": "lp_ft"})
    training = Training.of({"epochs": 3, "views": 2, "batch_size": 8, "precision": "fp32"})
    context = RunContext(on_epoch=lambda epoch, _: told.append((epoch, any(augmented))))
    transfer(source, renamed, strategy, training=training, context=context)
    assert told[:2] == [(0, False), (1, True)]


@pytest.mark.parametrize(("part", "trained"), [("first", "01"), ("middle", "23"), ("last", "4")])
def test_surgery_moves_one_third_of_the_stages_and_the_head_and_no_other_to_the_bit(
    source, renamed, carry, epochs, part, trained
):
    result = carry(source, renamed, {"transfer": "partial", "surgical": part}, augmentation="affine")
    assert stages_of(moved(epochs[0], epochs[-1])) == {*trained, "head"}
    whole = {name for name in epochs[0] if stages_of([name]) <= {*trained, "head"}}
    assert moved(epochs[0], epochs[-1]) == trainable(whole)
    assert stages_of(moved(weights(source, "stages."), weights(result.bundle, "stages."))) <= {*trained}
    assert result.bundle.provenance["decisions"]["part"] == part


@pytest.mark.parametrize(
    ("shift", "part"),
    [
        ("negative", "first"),
        ("noise", "first"),
        ("faint", "first"),
        ("others' names", "last"),
        ("names turned", "last"),
    ],
)
def test_surgery_goes_where_the_target_differs(source, carry, tmp_path, shift, part):
    images, labels = digits()
    images, labels = images[1000:1080], labels[1000:1080]
    noise = np.random.default_rng(0).normal(0, 80, images.shape)
    shifted = {"negative": 255 - images, "noise": (images + noise).clip(0, 255), "faint": 100 + 0.2 * images}
    named = {"others' names": 9 - labels, "names turned": (labels + 1) % 10}
    dataset = pack(shifted.get(shift, images).astype(np.uint8), named.get(shift, labels), tmp_path)
    assert carry(source, dataset, "surgical", epochs=1).bundle.provenance["decisions"]["part"] == part


def test_a_stages_signal_is_how_far_the_samples_gradients_agree(source, known, carry, monkeypatch):
    monkeypatch.setattr(surgery, "_SAMPLES", 10)
    signals = []
    measure = surgery.signals
    monkeypatch.setattr(surgery, "signals", lambda *given: signals.append(measure(*given)) or signals[0])
    carry(source, known, "surgical", epochs=1)
    bundle, train = carry(source, known, "zero").bundle, known.split("train")
    inputs = bundle.preprocessing(torch.from_numpy(np.array(train.samples)))
    chosen = np.linspace(0, len(train.labels) - 1, 10).astype(int)
    for stage, signal in zip(bundle.network.stages, signals[0], strict=True):
        gradients = []
        for position in chosen:
            bundle.network.zero_grad()
            loss = -torch.log_softmax(bundle.network(inputs[position : position + 1]), dim=1)
            loss[0, train.labels[position]].backward()
            gradients.append(np.concatenate([p.grad.numpy().ravel() for p in stage.parameters()]).astype(np.float64))
        mean, deviation = np.mean(gradients, axis=0), np.std(gradients, axis=0)
        asked = deviation > 0
        assert signal == pytest.approx(np.mean(np.abs(mean[asked]) / deviation[asked]), rel=0.02)


def test_surgery_needs_a_part_for_each_third(source, renamed, carry):
    network = Network([torch.nn.Sequential(*source.network.stages)], source.network.head)
    with pytest.raises(InputError, match="surgical parts the stages into three, but convnet has 1; use transfer: full"):
        carry(replace(source, network=network), renamed, "surgical")


@pytest.mark.parametrize("kind", ["partial", "surgical", "full"])
def test_training_starts_from_the_probe_unless_told_otherwise(source, known, carry, kind):
    strategy = {"transfer": "full"} if kind == "full" else {"transfer": "partial"}
    if kind == "surgical":
        strategy["surgical"] = "last"
    for refit, dataset in ((False, known), (True, LabelledDataset(known))):
        fitted = probe_of(source, dataset)
        result = carry(source, known, strategy, refit=refit, **STANDING)
        assert np.allclose(result.bundle.network.head.weight.detach(), fitted.head.weight, atol=1e-6)
        assert np.allclose(result.bundle.network.head.bias.detach(), fitted.head.bias, atol=1e-6)
    assert result.bundle.provenance["decisions"]["head"] == probe_of(source, known).kind


def test_more_stages_cannot_be_frozen_than_there_are(source, renamed, carry):
    with pytest.raises(InputError, match=r"strategies.deep.freeze is 6, but convnet has 5 stages"):
        carry(source, renamed, {"name": "deep", "transfer": "partial", "freeze": 6})


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_what_comes_out_is_a_whole_model_of_the_sources_architecture_for_the_target(
    carried, renamed, tmp_path, strategy
):
    source, result = carried(strategy).before, carried(strategy).result
    network = result.bundle.network
    assert result.bundle.classes == renamed.classes == ("eight", "five", "three")
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not network.training
    held_out, all_ids = result.held_out, LabelledDataset(renamed).split("train").ids
    assert result.validation == score("accuracy", held_out.labels, held_out.predicted, 3)
    # What trains is judged on the labels of further trainings as well.
    assert set(held_out.ids) > set(renamed.split("val").ids)
    assert set(held_out.ids) <= set(all_ids)
    assert (set(held_out.ids) == set(all_ids)) or strategy not in FITTED
    assert result.seconds > 0
    assert (result.history == []) == (result.best_epoch is None) == (strategy in FITTED)
    # Nothing in it says how it was made, and it is read as any other.
    assert weights(result.bundle).keys() == weights(source).keys()
    result.bundle.save(tmp_path / "bundle")
    assert same(weights(ModelBundle.load(tmp_path / "bundle")), weights(result.bundle))
    # What was chosen is part of the model's provenance and of what the record is told.
    assert result.bundle.provenance["decisions"] == result.bundle.provenance["decisions"]
    assert result.bundle.provenance["decisions"].items() <= result.params.items()
    assert json.loads(json.dumps(result.params)) == result.params


@pytest.mark.parametrize(
    ("strategy", "decided"),
    [
        ("zero", {"head"}),
        ("linear_probe", {"head"}),
        ("partial", {"head", "schedule"}),
        ("full", {"head", "schedule"}),
        ("gradual", {"head"}),
        ("lora", {"head"}),
        ("surgical", {"head", "part"}),
        ("wise_ft", {"head", "alpha"}),
    ],
)
def test_what_was_chosen_is_recorded(carried, strategy, decided):
    assert carried(strategy).result.bundle.provenance["decisions"].keys() == decided


@pytest.mark.parametrize("strategy", [kind for kind in EVERY_KIND if kind != "lora"], ids=name_of)
def test_a_source_gives_a_head_start(source, renamed, carry, strategy):
    assert carry(source, renamed, strategy, epochs=4).validation >= 0.8


@pytest.mark.parametrize("strategy", EVERY_KIND, ids=name_of)
def test_one_seed_gives_the_same_metrics_and_the_same_bundle(suited, renamed, carry, tmp_path, strategy):
    source, outcomes = suited(strategy), []
    for noise in (5, 6):
        torch.manual_seed(noise)
        result = carry(source, renamed, strategy, seed=1, augmentation="affine")
        outcomes.append((result.validation, result.history, result.bundle.save(tmp_path / "bundle")))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("strategy", THAT_TRAIN, ids=name_of)
def test_another_seed_gives_another_training(carried, strategy):
    assert {"head.weight", "head.bias"} <= moved(carried(strategy).end, carried(strategy, seed=1).end)


def test_the_seed_also_decides_a_new_head(source, renamed, carry):
    strategy = {"transfer": "full", "schedule": "constant"}
    one, other = (carry(source, renamed, strategy, seed=seed, **STANDING) for seed in (1, 2))
    assert not torch.allclose(one.bundle.network.head.weight, other.bundle.network.head.weight, atol=1e-4)


def test_zero_takes_the_sources_head_for_classes_that_it_knows_whatever_their_order(source, relabelled, known, carry):
    samples = known.split("test").samples
    rows = [source.classes.index(name) for name in known.classes]
    expected = source.predict_logits(samples)[:, rows]
    for start in (source, relabelled):
        result = carry(start, known, "zero")
        assert np.allclose(result.bundle.predict_logits(samples), expected, atol=1e-4)


def test_what_is_made_of_a_model_stays_under_its_licence(source, known, carry):
    assert "license" not in carry(source, known, "zero").bundle.provenance
    source.provenance["license"] = "cc-by-nc-4.0"
    assert carry(source, known, "zero").bundle.provenance["license"] == "cc-by-nc-4.0"


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


@pytest.mark.parametrize("strategy", [kind for kind in THAT_TRAIN if kind != "lora"], ids=name_of)
def test_what_is_trained_has_a_temperature_of_its_own(source, known, carry, strategy):
    chosen, val = carry(source, known, strategy, refit=False), known.split("val")
    fitted = fit_temperature(chosen.bundle.predict_logits(val.samples), val.labels)
    assert chosen.bundle.temperature == fitted != source.temperature
    # The one of the training that chose stays, as its samples are learned from then.
    result = carry(source, known, strategy)
    assert result.bundle.temperature == result.params["temperature"] == fitted


def test_zero_needs_no_more_than_one_sample_a_class(source, single, carry):
    assert single.counts["train"] == 2
    result, test = carry(source, single, "zero"), single.split("test")
    assert score("accuracy", test.labels, result.bundle.predict_logits(test.samples).argmax(1), 2) >= 0.7
    # Nothing was held out, so nothing is claimed.
    assert math.isnan(result.validation)
    assert result.held_out is None


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


@pytest.mark.parametrize("strategy", FULL, ids=name_of)
def test_full_moves_every_weight(source, renamed, carry, epochs, strategy):
    # Six epochs are what gradual unfreezing needs to reach the first stage.
    carry(source, renamed, strategy, epochs=6, patience=6, augmentation="affine")
    assert trainable(moved(epochs[0], epochs[-1])) == trainable(epochs[0])


def test_gradual_unfreezing_goes_from_the_head_to_the_first_stage_one_stage_at_a_time(source, renamed, carry, epochs):
    result = carry(source, renamed, {"transfer": "full", "schedule": "gradual"}, epochs=12, patience=12)
    assert result.params["unfreeze_every"] == 1
    order = ["head", "4", "3", "2", "1", "0"]
    steps = [moved(before, after) for before, after in pairwise(epochs)]
    assert [stages_of(names) for names in steps] == [set(order[: count + 1]) for count in [*range(6), *[5] * 6]]
    # What has not joined yet is the source's to the bit, batch-norm statistics included; what has is all of it.
    for names in steps:
        assert names == trainable(name for name in epochs[0] if stages_of([name]) <= stages_of(names))


def test_a_stage_further_from_the_head_moves_at_a_lower_rate(source, renamed, carry, epochs):
    steps = []
    for layer_decay in (1.0, 0.5):
        # One step of plain gradients: how far a weight goes is its rate.
        strategy = {"transfer": "full", "schedule": "constant", "layer_decay": layer_decay}
        settings = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0}
        carry(source, renamed, strategy, **settings)
        steps.append({name: epochs[1][name] - epochs[0][name] for name in epochs[0]})
    even, decayed = steps
    for name in (name for name, _ in source.network.named_parameters()):
        distance = 0 if name.startswith("head.") else 5 - int(name.split(".")[1])
        assert torch.allclose(decayed[name], even[name] * 0.5**distance, rtol=1e-3, atol=5e-7), name
        assert even[name].abs().max() > 1e-4


def test_gradual_as_a_word_has_rates_that_fall_by_three_tenths_a_stage(source, renamed, carry):
    assert carry(source, renamed, "gradual", epochs=1).params["layer_decay"] == 0.7


class Compared(list):
    """The probabilities of what was trained and of its start, and the labels, of each comparison; `said` is its result,
    where it is given."""

    said: bool | None = None


@pytest.fixture
def compared(monkeypatch) -> Compared:
    """The comparisons of what was trained with its start."""
    told, beats = Compared(), SingleLabel.beats

    def watched(task, outputs, simpler, labels, groups=None):
        told.append((outputs, simpler, labels))
        return beats(task, outputs, simpler, labels, groups) if told.said is None else told.said

    monkeypatch.setattr(SingleLabel, "beats", watched)
    return told


@pytest.mark.parametrize("refit", [True, False])
def test_a_start_stays_unless_training_beats_it_on_all_labels_that_any_training_held_out(
    source, renamed, carry, compared, refit
):
    ruinous = {"learning_rate": 5.0, "optimizer": "sgd", "refit": refit, "cross_validate": True}
    stayed = carry(source, renamed, "lp_ft", **ruinous)
    ((_, start, labels),) = compared
    assert len(labels) > renamed.counts["val"]
    assert stayed.best_epoch == stayed.bundle.provenance["kept_epoch"] == 0
    assert same(weights(stayed.bundle, "stages."), weights(source, "stages."))
    # What it says of itself is what the start's predictions for all of these labels say.
    assert stayed.validation == np.mean(start.argmax(1) == labels)
    assert len(stayed.held_out.ids) == len(labels)
    compared.said = True
    moved_on = carry(source, renamed, "lp_ft", **ruinous)
    outputs, _, labels = compared[-1]
    assert moved_on.best_epoch == moved_on.bundle.provenance["kept_epoch"] > 0
    assert not same(weights(moved_on.bundle, "stages."), weights(source, "stages."))
    assert moved_on.validation == np.mean(outputs.argmax(1) == labels) < stayed.validation


def test_a_start_that_stays_has_no_share_of_what_was_fine_tuned(source, renamed, carry, compared):
    compared.said = False
    stayed = carry(source, renamed, {"name": "full", "transfer": "full", "interpolate": 0.5})
    assert stayed.params["alpha"] == stayed.bundle.provenance["decisions"]["alpha"] == 0.0
    assert same(weights(stayed.bundle, "stages."), weights(source, "stages."))


def test_interpolation_ends_at_the_start_and_at_what_was_fine_tuned(source, renamed, carry, compared):
    compared.said = True
    fine_tuned = carry(source, renamed, "full")
    ends = {
        share: carry(source, renamed, {"name": "full", "transfer": "full", "interpolate": share})
        for share in (0.0, 0.5, 1.0)
    }
    assert same(weights(ends[0.0].bundle, "stages."), weights(source, "stages."))
    assert same(weights(ends[1.0].bundle), weights(fine_tuned.bundle))
    for name, middle in ends[0.5].bundle.network.named_parameters():
        start, end = (dict(ends[share].bundle.network.named_parameters())[name] for share in (0.0, 1.0))
        assert torch.allclose(middle, (start + end) / 2, atol=1e-6)
    assert [ends[share].bundle.provenance["decisions"]["alpha"] for share in ends] == [0.0, 0.5, 1.0]
    kept = [ends[share].bundle.provenance["kept_epoch"] for share in ends]
    assert kept == [0, None, fine_tuned.bundle.provenance["kept_epoch"]]
    assert fine_tuned.bundle.provenance["kept_epoch"] == fine_tuned.best_epoch


def test_the_share_that_interpolation_chooses_is_no_worse_than_either_end(source, renamed, carry):
    chosen, start, end = (
        carry(source, renamed, {"name": "full", "transfer": "full", "interpolate": share}, learning_rate=0.01)
        for share in ("auto", 0.0, 1.0)
    )
    assert chosen.validation >= max(start.validation, end.validation)
    assert 0 <= chosen.bundle.provenance["decisions"]["alpha"] <= 1


def test_lora_trains_matrices_of_its_rank_and_hands_back_plain_weights(transformer, renamed, carry):
    # From a new head: there is no probe that would be hard to beat.
    strategy = {"transfer": "partial", "lora": 2, "schedule": "constant"}
    result = carry(transformer, renamed, strategy, learning_rate=0.01)
    assert result.best_epoch > 0
    before, after = weights(transformer, "stages."), weights(result.bundle, "stages.")
    assert moved(before, after) == {name for name in before if re.search(r"(qkv|proj|fc\d)\.weight", name)} - {
        "stages.0.patch_embed.proj.weight"
    }
    for name in moved(before, after):
        for matrix in (after[name] - before[name]).chunk(3 if "qkv" in name else 1):
            assert torch.linalg.svdvals(matrix)[2] < 1e-4 * torch.linalg.svdvals(matrix)[0]


def test_lora_is_for_transformers(source, renamed, carry):
    with pytest.raises(InputError, match="lora adds to linear layers, and most of convnet's weights are in others"):
        carry(source, renamed, "lora")


@pytest.mark.parametrize("kind", ["full", "partial"])
def test_a_strong_pull_to_the_source_keeps_the_stages_there_and_no_pull_does_not(source, renamed, carry, epochs, kind):
    def travelled(**regularizer: object) -> float:
        strategy = {"transfer": kind, "schedule": "constant", **regularizer}
        carry(source, renamed, strategy, optimizer="sgd", learning_rate=0.02, epochs=4)
        names = [name for name, _ in source.network.named_parameters() if name.startswith("stages.")]
        return float(sum((epochs[-1][name] - epochs[0][name]).square().sum() for name in names)) ** 0.5

    free = travelled()
    assert free > 0.1
    assert travelled(regularizer="l2_sp", strength=5.0) < 0.2 * free


def test_a_pull_to_zero_shrinks_the_weights_and_takes_the_place_of_weight_decay(source, renamed, carry):
    training = {"optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 0.3, "epochs": 8}
    strategy = {"transfer": "full", "schedule": "constant", "regularizer": "l2", "strength": 0.2}
    shrunk = carry(source, renamed, strategy, **training)
    assert shrunk.best_epoch > 0
    size = sum(p.norm().item() for p in shrunk.bundle.network.stages.parameters())
    assert size < 0.9 * sum(p.norm().item() for p in source.network.stages.parameters())
    assert shrunk.params["weight_decay"] == 0.0
    assert carry(source, renamed, "full", **training).params["weight_decay"] == 0.3


def test_a_regularizer_of_strength_zero_is_none(source, renamed, carry):
    plain = carry(source, renamed, "full", weight_decay=0.0)
    for regularizer in ("l2", "l2_sp", "delta"):
        strategy = {"name": "full", "transfer": "full", "regularizer": regularizer, "strength": 0.0}
        assert carry(source, renamed, strategy, weight_decay=0.0).history == plain.history


def test_a_strategys_own_budget_goes_before_the_recipes(source, renamed, carry):
    strategy = {"transfer": "full", "epochs": 3, "learning_rate": 0.002}
    result = carry(source, renamed, strategy, epochs=1, learning_rate=0.5)
    assert (result.params["epochs"], result.params["learning_rate"]) == (3, 0.002)
    assert len(result.history) == 3


def test_the_model_says_where_it_comes_from(source, renamed):
    section, context = Strategy.of({"name": "mine", "transfer": "zero"}), RunContext(seed=7)
    where = {"reference": "models:/a/1", "digest": "sha256:1"}
    result = transfer(source, renamed, section, training=Training(), context=context, **where)
    assert result.bundle.provenance == {
        "role": "target",
        "strategy": "mine",
        "data_digest": renamed.digest,
        "train_digest": renamed.split_digest("train"),
        "source": "models:/a/1",
        "source_digest": "sha256:1",
        "seed": 7,
        "head": "trained",
        "decisions": {"head": "nearest class mean"},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "headstart": __version__},
    }


def test_epochs_are_told_and_progress_is_named_after_the_strategy(source, renamed):
    told, seen = [], set()
    result = transfer(
        source,
        renamed,
        Strategy.of({"name": "mine", "transfer": "full"}),
        training=Training(epochs=2),
        context=RunContext(
            metric="macro_f1",
            on_epoch=lambda epoch, metrics: told.append(metrics["val/macro_f1"]),
            progress=lambda label, done, total, note="": seen.add(label),
        ),
    )
    # The first is the start.
    assert told[1:] == [epoch["val/macro_f1"] for epoch in result.bundle.provenance["history"]]
    assert len(told) == 3
    assert seen == {"mine"}


def test_a_source_of_another_modality_is_refused(source, renamed, carry):
    with pytest.raises(InputError, match="The source reads text and the target is image"):
        carry(replace(source, modality="text"), renamed, "zero")
