"""A model in 8-bit whole numbers is a contender, judged by its own answers on labels that it has not learned from."""

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.models import int8_network
from headstart.models.bundle import ModelBundle
from headstart.recipe.recipe import Recipe
from headstart.strategies import quantization
from headstart.strategies.methods.full import Full
from headstart.strategies.section import Strategy

INT8 = {"name": "small", "strategy": "int8"}


def recipe(*strategies: object) -> Recipe:
    return Recipe.of({
        "name": "digits", "source": {"candidates": ["torchvision://resnet18/IMAGENET1K_V1"]},
        "target": {"data": {"uri": "digits"}}, "strategies": list(strategies),
    })  # fmt: skip


@pytest.fixture
def steps(monkeypatch) -> list[tuple[str, object]]:
    """What was done, in order: tasks that `full` trained for, and samples that told ranges with the model they made."""
    done, teach, made = list[tuple[str, object]](), Full.carry, int8_network.as_int8

    def trained(self, task):
        done.append(("trained", task))
        return teach(self, task)

    def quantized(bundle, samples):
        found = made(bundle, samples)
        done.append(("quantized", (samples, found)))
        return found

    monkeypatch.setattr(Full, "carry", trained)
    monkeypatch.setattr(quantization, "as_int8", quantized)
    return done


def is_among(samples: np.ndarray, others: np.ndarray) -> np.ndarray:
    known = {each.tobytes() for each in np.asarray(others)}
    return np.array([each.tobytes() in known for each in np.asarray(samples)])


def test_its_answers_are_those_of_the_quantized_network_and_stay_so_in_the_bundle(source, renamed, carry, tmp_path):
    found = carry(source, renamed, INT8, refit=False)

    bundle, test = found.bundle, renamed.split("test")
    assert bundle.architecture == "int8/convnet"
    assert bundle.classes == renamed.classes
    assert bundle.provenance["strategy"] == "small"
    assert bundle.provenance["decisions"]["original"] == "full"
    assert "onnxruntime" in bundle.provenance["versions"]
    assert found.history == []
    bundle.save(tmp_path / "small")
    again = ModelBundle.load(tmp_path / "small")
    assert np.array_equal(again.predict_outputs(test.samples), bundle.predict_outputs(test.samples))
    full = carry(source, renamed, "full", refit=False).bundle
    theirs, ours = (each.predict_logits(test.samples) for each in (full, bundle))
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean() > 0.9
    assert not np.allclose(theirs, ours)
    full.save(tmp_path / "full")
    sizes = [(tmp_path / each / "model.safetensors").stat().st_size for each in ("small", "full")]
    assert sizes[0] < sizes[1] / 3


def test_no_held_out_label_trains_or_calibrates_what_is_judged_by_it(source, renamed, carry, steps):
    found = carry(source, renamed, INT8, cross_validate=True)

    # Of all labels, which is kept, and for each part of the labels that is held out.
    trained, quantized = ([each for what, each in steps if what == kind] for kind in ("trained", "quantized"))
    whole, *parts = trained
    *judging, (last, _) = quantized
    assert len(parts) == len(judging) > 1
    assert (whole.context.refit, whole.start_stays) == (True, None)
    stays = carry(source, renamed, "full", cross_validate=True).bundle.provenance["kept_epoch"] == 0
    for task, (given, _) in zip(parts, judging, strict=True):
        train, val = (task.dataset.split(name).samples for name in ("train", "val"))
        assert is_among(given, train).all()
        assert not is_among(given, val).any()
        assert (task.context.refit, task.context.cross_validate, task.start_stays) == (False, False, stays)
    assert not any(is_among(given, renamed.split("test").samples).any() for given in (last, *(g for g, _ in judging)))
    # It is judged by the answers of the quantized network.
    (_, first), val = quantized[0], renamed.split("val")
    judged = found.held_out.probabilities[: len(val.ids)]
    assert np.array_equal(found.held_out.ids[: len(val.ids)], val.ids)
    assert np.allclose(judged, first.predict_probabilities(val.samples), atol=1e-6)
    assert found.params["labels"] == renamed.counts["train"] + renamed.counts["val"]
    assert set(renamed.split("val").ids) < set(found.held_out.ids)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["zero", "linear_probe", "distill"])
def test_it_is_made_of_strategies_that_train_and_that_do_not(source, renamed, carry, of):
    found = carry(source, renamed, {**INT8, "original": of}, refit=False, epochs=1)

    assert found.bundle.architecture == "int8/convnet"
    assert len(found.held_out.ids) >= renamed.counts["val"]


def test_without_held_out_labels_the_calibration_stays_its_originals(source, single, carry):
    assert single.counts["val"] == 0
    found = carry(source, single, {**INT8, "original": "linear_probe"})
    assert found.held_out is None
    assert np.isnan(found.validation)
    assert found.bundle.temperature == carry(source, single, "linear_probe").bundle.temperature


def test_a_recipe_names_the_strategy_and_its_settings_are_taken_over():
    held = {"name": "held", "transfer": "full", "regularizer": "l2_sp", "strength": 0.1}
    found = recipe("full", held, "int8", {**INT8, "original": "held"}).strategies

    assert [each.copy_of for each in found] == [None, None, "full", "held"]
    assert found[3].carried == found[1]
    # As a step is given it.
    sections = recipe("full", held, {**INT8, "original": "held"}).to_sections()["strategies"]
    assert Strategy.of(sections[2]).carried == found[1]


@pytest.mark.parametrize(
    ("strategies", "told"),
    [
        (["linear_probe", "int8"], "int8.original: there is no strategy 'full' beside it; add it, or name one"),
        (["full", "int8", {**INT8, "original": "int8"}], "small.original: int8 is of 8-bit whole numbers already"),
        (
            ["full", {**INT8, "original": {"strategy": "int8"}}],
            "small.original: int8 is of 8-bit whole numbers already",
        ),
        (["full", {**INT8, "epochs": 3}], "epochs has no meaning in int8, which trains nothing"),
        (
            ["full", {"name": "x", "transfer": "full", "original": "full"}],
            "original is a setting of int8; add strategy: int8",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(strategies, told):
    with pytest.raises(InputError, match=told):
        recipe(*strategies)


def test_without_onnxruntime_it_is_refused_before_anything_is_trained(source, renamed, carry, steps, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime, which is not installed; run: pip install .*\[onnx\]"):
        carry(source, renamed, INT8)
    assert not steps
