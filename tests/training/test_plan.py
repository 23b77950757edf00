from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from headstart.training.plan import make_plan
from headstart.training.section import Training

EVEN = np.repeat([0, 1, 2], 40)
SKEWED = np.repeat([0, 1, 2], [80, 20, 20])


def test_what_the_recipe_says_is_what_is_done():
    training = Training(
        epochs=7, batch_size=16, accumulate=2, optimizer="sgd", learning_rate=0.5, weight_decay=0.2, warmup=0.3,
        label_smoothing=0.1, class_weights="none", patience=2, augmentation="crop", augmentation_strength=0.5,
        flip=True, views=3, ema=0.99, precision="bf16", layout="channels_last", compile="off",
    )  # fmt: skip
    params = make_plan(training, SKEWED, pretrained=True, layer_decay=0.8).to_params()
    assert params.pop("balance") is False
    assert params.pop("layer_decay") == 0.8
    assert params.pop("unfreeze_every") == 0
    assert params.pop("strength") == 0.5
    assert params.pop("clip") is None
    assert not any(params.pop(key) for key in ("judges_start", "stop"))
    assert params == training.model_dump(exclude={"class_weights", "augmentation_strength"})


@pytest.mark.parametrize("epochs", [1, 3, 10, 61])
@pytest.mark.parametrize("stages", [1, 5])
def test_gradual_unfreezing_begins_with_the_head_and_frees_every_stage_in_time(stages, epochs):
    plan = make_plan(Training(epochs=epochs), EVEN, pretrained=True, gradual_stages=stages)
    frozen = [plan.frozen(stages, epoch) for epoch in range(1, epochs + 1)]
    assert frozen[0] == stages
    assert all(before - after in (0, 1) for before, after in pairwise(frozen))
    if epochs > stages:
        assert frozen[-1] == 0


def test_without_gradual_unfreezing_everything_trains_from_the_first_epoch():
    assert make_plan(Training(), EVEN, pretrained=True).frozen(5, 1) == 0


def test_small_data_are_seen_more_often_and_no_data_too_seldom_or_without_end():
    epochs = [make_plan(Training(), np.arange(count) % 2, pretrained=False).epochs for count in (10, 320, 3200, 10**6)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] < 100
    assert epochs[1] > epochs[2]
    assert epochs[-1] >= 2


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_source_weights_move_more_slowly_than_random_ones(optimizer):
    training = Training(optimizer=optimizer)
    scratch, pretrained = (make_plan(training, EVEN, pretrained=start).learning_rate for start in (False, True))
    assert 0 < pretrained < scratch


def test_the_more_samples_a_fine_tuning_has_the_less_they_are_augmented_and_never_less_than_half():
    counts = (10, 250, 400, 500, 10**5)
    strengths = [make_plan(Training(), np.arange(count) % 2, pretrained=True).strength for count in counts]
    assert strengths == pytest.approx([1.0, 1.0, 0.625, 0.5, 0.5])


def test_a_random_start_is_augmented_fully_whatever_the_number_of_samples():
    assert make_plan(Training(), np.arange(10**5) % 2, pretrained=False).strength == 1.0


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_a_strength_that_the_recipe_gives_is_taken(strength):
    training = Training(augmentation_strength=strength)
    assert make_plan(training, np.arange(1000) % 2, pretrained=True).strength == strength


@pytest.mark.parametrize(
    ("setting", "labels", "balance"),
    [
        ("auto", EVEN, False),
        ("auto", SKEWED, True),
        ("auto", np.repeat([0, 1], [60, 40]), False),
        ("auto", np.repeat([0, 1], [61, 40]), True),
        ("none", SKEWED, False),
        ("balanced", EVEN, True),
    ],
)
def test_classes_are_weighed_where_they_are_skewed_or_where_asked_for(setting, labels, balance):
    assert make_plan(Training(class_weights=setting), labels, pretrained=False).balance is balance


def test_a_class_without_training_samples_does_not_make_the_data_skewed():
    assert not make_plan(Training(), np.repeat([0, 2], 30), pretrained=False).balance


@pytest.mark.parametrize(("samples", "batch_size"), [(3, 8), (50, 8), (100, 16), (128, 32), (10**5, 32)])
def test_few_samples_are_taken_in_small_batches(samples, batch_size):
    assert make_plan(Training(), np.arange(samples) % 2, pretrained=False).batch_size == batch_size


def test_no_training_ends_early_in_the_first_half_of_its_budget():
    plan = make_plan(Training(epochs=60), np.arange(250) % 2, pretrained=False)
    assert plan.patience == 30


def test_a_training_that_few_samples_could_stop_goes_to_its_end_unless_told_otherwise():
    labels = np.arange(249) % 2
    assert make_plan(Training(epochs=60), labels, pretrained=False).patience == 60
    assert make_plan(Training(epochs=60, patience=7), labels, pretrained=False).patience == 7


def network(*inputs: int, norm: nn.Module | None = None) -> nn.Module:
    """One with a layer for each number, that of a unit's inputs."""
    return nn.Sequential(*(nn.Linear(count, 2) for count in inputs), norm or nn.BatchNorm1d(2))


def rate(of: nn.Module | None, *, pretrained: bool = True, **settings: object) -> float:
    return make_plan(Training(**settings), EVEN, pretrained=pretrained, network=of).learning_rate


def test_the_rate_of_a_source_falls_with_the_inputs_of_all_layers_that_are_trained():
    found = [rate(None), *(rate(network(*inputs)) for inputs in ((3259,), (1629, 1630), (3259, 3259), (32590,)))]
    assert found == pytest.approx([2e-3, 2e-3, 2e-3, 1e-3, 2e-4])
    half = network(3259, 3259)
    half[0].requires_grad_(False)
    assert rate(half) == pytest.approx(2e-3)


def test_the_rate_of_a_source_is_never_above_that_of_a_random_start_which_is_lower_without_batch_norms():
    small, transformer = network(100), network(100, norm=nn.LayerNorm(2))
    assert rate(small) == rate(small, pretrained=False) == 3e-3
    assert rate(transformer) == rate(transformer, pretrained=False) == 1e-3


def test_a_given_rate_holds_and_a_plain_gradient_shrinks_with_the_width_by_itself():
    assert rate(network(32590), optimizer="sgd") == rate(None, optimizer="sgd")
    assert rate(network(32590), learning_rate=0.1) == 0.1


@pytest.mark.parametrize(
    ("optimizer", "from_probe", "clip"), [("sgd", True, 1.0), ("sgd", False, None), ("adamw", True, None)]
)
def test_plain_gradients_are_bounded_where_a_fitted_head_makes_them_large(optimizer, from_probe, clip):
    assert make_plan(Training(optimizer=optimizer), EVEN, pretrained=True, from_probe=from_probe).clip == clip
