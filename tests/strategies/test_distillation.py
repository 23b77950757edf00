"""A small network learns what a fine-tuned source answers, and is judged on labels that neither of them has seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.judging.serving_cost import cost_of
from headstart.metrics.averaging import weights_by_held_out
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.recipe.recipe import Recipe
from headstart.strategies import distillation
from headstart.strategies.distillation import Likeness
from headstart.strategies.methods.full import Full
from headstart.strategies.section import Strategy

DISTILL = {"strategy": "distill", "student": "mobilenet_v3_small"}
SMALL = {"strategy": "distill", "epochs": 3}


def test_the_student_is_a_network_of_its_own_that_reads_samples_as_the_source_does(source, renamed, carry, tmp_path):
    found = carry(source, renamed, DISTILL, refit=False, epochs=1)

    bundle = found.bundle
    assert bundle.architecture == "mobilenet_v3_small"
    assert bundle.preprocessing == source.preprocessing
    assert bundle.classes == renamed.classes
    assert bundle.provenance["decisions"] == {"student": "mobilenet_v3_small", "teacher": "full"}
    assert found.params["student"] == "mobilenet_v3_small"
    assert len(found.held_out.ids) >= renamed.counts["val"]
    bundle.save(tmp_path / "student")
    again = ModelBundle.load(tmp_path / "student")
    samples = renamed.split("test").samples
    assert np.array_equal(again.predict_logits(samples), bundle.predict_logits(samples))
    assert cost_of(again, tmp_path / "student").size > 0


@pytest.mark.slow
def test_it_learns(loaded_source, renamed, carry):
    found = carry(loaded_source, renamed, {**SMALL, "epochs": 25, "learning_rate": 0.005})

    test = renamed.split("test")
    assert found.bundle.architecture == "convnet"
    assert float((found.bundle.predict_logits(test.samples).argmax(axis=1) == test.labels).mean()) > 0.6


def test_the_same_seed_makes_the_same_student(loaded_source, renamed, carry):
    one, again = (carry(loaded_source, renamed, {**SMALL, "epochs": 1}, refit=False).bundle for _ in range(2))
    samples = renamed.split("test").samples
    assert np.array_equal(one.predict_logits(samples), again.predict_logits(samples))


def test_while_epochs_are_chosen_the_teacher_knows_no_held_out_label_and_then_all(source, renamed, carry, monkeypatch):
    taught, teach = [], Full.carry

    def watched(self, task):
        taught.append((task.context.refit, task.dataset.counts["val"], task.strategy))
        return teach(self, task)

    monkeypatch.setattr(Full, "carry", watched)
    found = carry(source, renamed, SMALL, cross_validate=True)

    # To be compared and refitted, to choose, and for each further part of the labels that is held out.
    assert [refit for refit, *_ in taught] == [True, False, False, False]
    assert {name for *_, name in taught} == {"full"}
    assert all(held_out > 0 for _, held_out, _ in taught)
    assert found.params["labels"] == renamed.counts["train"] + renamed.counts["val"]


def test_held_out_labels_change_neither_teacher_nor_student_but_which_epoch_is_kept(
    loaded_source, renamed, carry, monkeypatch
):
    ends = []
    fit = distillation.fit

    def watched(bundle, dataset, plan, context, **named):
        context = replace(context, on_epoch=lambda epoch, metrics: ends.append(bundle.network.head.weight.clone()))
        return fit(bundle, dataset, plan, context, **named)

    monkeypatch.setattr(distillation, "fit", watched)
    carry(loaded_source, renamed, {**SMALL, "teacher": "linear_probe"}, refit=False)
    split = type(renamed).split

    def turned(self, name):
        found = split(self, name)
        return replace(found, labels=(found.labels + 1) % len(self.classes)) if name == "val" else found

    monkeypatch.setattr(type(renamed), "split", turned)
    first = ends[: SMALL["epochs"] + 1]
    ends.clear()
    carry(loaded_source, renamed, {**SMALL, "teacher": "linear_probe"}, refit=False)

    # What follows holds out other labels, and learns from these.
    assert len(first) == SMALL["epochs"] + 1
    assert all(torch.equal(one, other) for one, other in zip(first, ends, strict=False))


def bundle_of(task: str, classes: int, seed: int) -> ModelBundle:
    from headstart.modalities.image.preprocessing import Preprocessing

    torch.manual_seed(seed)
    network = convnet(classes=classes, channels=1).eval()
    torch.nn.init.normal_(network.head.weight)
    if task == REGRESSION:
        network.measure(10.0, 4.0)
    elif task == MULTI_LABEL:
        network.label()
    names = tuple("abc"[:classes])
    return ModelBundle(network, "convnet", "image", Preprocessing(16, 1, (0.4,), (0.2,)), names, 1.0, task=task)


@pytest.mark.parametrize(("task", "classes"), [("single_label", 3), (MULTI_LABEL, 3), (REGRESSION, 1)])
def test_the_loss_is_that_of_the_paper_and_pulls_to_the_teachers_answers(task, classes):
    teacher, student = bundle_of(task, classes, 0), bundle_of(task, classes, 1)
    teacher.temperature = 1.0 if task == REGRESSION else 1.5
    inputs, t = torch.rand(4, 1, 16, 16), 3.0
    likeness = Likeness(teacher, t)
    outputs = student.network.activations(inputs)

    found = likeness(student.network, inputs, outputs, 0)

    with torch.no_grad():
        own, told = student.network(inputs).double(), teacher.network(inputs).double()
    if task == REGRESSION:
        expected = ((own - told) / 4).square().mean()
    elif task == MULTI_LABEL:
        p, q = torch.sigmoid(told / 1.5 / t), torch.sigmoid(own / t)
        expected = -(t**2) * (p * q.log() + (1 - p) * (1 - q).log()).mean()
    else:
        p, q = (told / 1.5 / t).softmax(dim=1), (own / t).softmax(dim=1)
        expected = t**2 * (p * (p / q).log()).sum(dim=1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    found.backward()
    assert student.network.head.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_a_training_is_named_after_its_teacher_so_that_a_checkpoint_of_another_is_not_taken():
    names = {Likeness(bundle_of("single_label", 3, seed), 2.0).named("distill") for seed in (0, 1, 1)}
    assert len(names) == 2
    assert Likeness(bundle_of("single_label", 3, 0), 4.0).named("distill") not in names


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("mobilenet_v9", "unknown architecture 'mobilenet_v9'"),
        ("transformer_tiny", "reads tokens, and pictures"),
        ("timm/vit_tiny_patch16_224", "does not read samples of 16 × 16, grey"),
    ],
)
def test_a_student_that_cannot_be_is_refused_before_the_teacher_is_trained(
    source, renamed, carry, student, told, monkeypatch
):
    monkeypatch.setattr(Full, "carry", None)
    with pytest.raises(InputError, match=told):
        carry(source, renamed, {"strategy": "distill", "student": student})


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"strategy": "distill", "freeze": 2}, "freeze has no meaning in distill"),
        ({"strategy": "distill", "temperature": 0.5}, "temperature"),
        (
            {"name": "x", "transfer": "full", "student": "convnet"},
            "student is a setting of distill; add strategy: distill",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(entry, told):
    with pytest.raises(InputError, match=told):
        Strategy.of(entry)


def test_its_name_alone_makes_the_small_network_of_the_kind_of_data():
    recipe = Recipe.of({
        "name": "digits", "source": {"candidates": ["torchvision://resnet18/IMAGENET1K_V1"]},
        "target": {"data": {"uri": "digits"}}, "strategies": ["full", "distill"],
    })  # fmt: skip
    assert recipe.strategies[1].model_dump()["student"] is None
    assert recipe.strategies[1].name == "distill"


def recipe_of(*strategies):
    source = {"candidates": ["torchvision://resnet18/IMAGENET1K_V1"]}
    values = {"name": "digits", "source": source, "target": {"data": {"uri": "digits"}}, "strategies": [*strategies]}
    return Recipe.of(values)


def teachers(recipe):
    return [each.name for each in next(each for each in recipe.strategies if each.name == "distill").teachers]


def test_all_strategies_beside_it_that_are_models_of_their_own_may_teach_with_their_settings():
    decayed = {"name": "decayed", "transfer": "full", "layer_decay": 0.7}
    student = {"name": "other", "strategy": "distill", "student": "resnet18"}

    recipe = recipe_of("zero", "full", decayed, "int8", "distill", student)

    assert teachers(recipe) == ["zero", "full", "decayed"]
    assert Recipe.of_sections(recipe.to_sections()) == recipe
    (named,) = recipe_of("full", decayed, {"strategy": "distill", "teacher": "decayed"}).strategies[2].teachers
    assert named.layer_decay == 0.7
    assert teachers(recipe_of("distill")) == ["full"]
    assert teachers(recipe_of("zero", {"strategy": "distill", "teacher": "linear_probe"})) == ["linear_probe"]


@pytest.mark.parametrize("teacher", ["distill", "int8", "nobody"])
def test_a_teacher_that_is_no_model_of_its_own_is_refused_with_those_that_are(teacher):
    with pytest.raises(InputError, match=f"distill.teacher: '{teacher}' is no .*name one of best, zero, full"):
        recipe_of("zero", "full", "int8", {"strategy": "distill", "teacher": teacher})


def test_the_teacher_is_the_strategy_that_held_out_predictions_choose_in_whatever_order(source, renamed, carry):
    beside = {name: carry(source, renamed, {"strategy": name}).held_out for name in ("zero", "linear_probe")}
    best = list(beside)[weights_by_held_out(list(beside.values()))[0][0]]

    for names in (tuple(beside), tuple(beside)[::-1]):
        settled = next(each for each in recipe_of(*names, SMALL).strategies if each.name == "distill")
        found = carry(source, renamed, settled.model_dump(mode="json"), epochs=1)
        assert found.params["teacher"] == found.bundle.provenance["decisions"]["teacher"] == best


def test_what_all_held_out_samples_say_of_the_teachers_start_holds_for_every_part(source, renamed, carry, monkeypatch):
    told, teach = [], Full.carry

    def watched(self, task):
        told.append(task.start_stays)
        trained = teach(self, task)
        trained.bundle.provenance["kept_epoch"] = 0
        return trained

    monkeypatch.setattr(Full, "carry", watched)
    carry(source, renamed, SMALL, cross_validate=True)

    assert told == [None, True, True, True]
