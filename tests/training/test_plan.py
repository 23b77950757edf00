import numpy as np
import pytest

from headstart.config import Training
from headstart.training.plan import make_plan

EVEN = np.repeat([0, 1, 2], 40)
SKEWED = np.repeat([0, 1, 2], [80, 20, 20])


def test_what_the_recipe_says_is_what_is_done():
    training = Training(
        epochs=7, batch_size=16, optimizer="sgd", learning_rate=0.5, weight_decay=0.2, warmup=0.3,
        label_smoothing=0.1, class_weights="none", patience=2, augmentation="crop", flip=True,
    )  # fmt: skip
    params = make_plan(training, SKEWED, pretrained=True).to_params()
    assert params.pop("balance") is False
    assert params == training.model_dump(exclude={"class_weights"})


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
    plan = make_plan(Training(epochs=60), EVEN, pretrained=False)
    assert plan.patience == 30
