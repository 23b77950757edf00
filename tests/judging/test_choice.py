"""Which contender is chosen and which is delivered, by their predictions for samples that were held out of training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.judging.choice import choose, ties, unbeaten, weights
from headstart.judging.contenders import Contender
from headstart.metrics.averaging import weights_in_average
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import FORMAT_VERSION
from headstart.storage.local import write_json
from headstart.training.trained import held_out_path

IDS = np.array([f"{number:03}" for number in range(100)])
LABELS = np.arange(100) % 2
NOISE = np.random.default_rng(0).uniform(-0.04, 0.04, 100)
NOISE -= NOISE.mean()


@pytest.fixture
def contender(tmp_path: Path):
    """`contender(name, share)`: one that gives the labels of held-out samples this probability, with some noise."""

    def make(name, share, *, kind="transfer", rows=slice(None), kept=True, noise=0.0, groups=None, **fields):
        path = tmp_path / name if kept else tmp_path / f"{name}.parquet"
        if kept:
            path.mkdir()
        if share is not None:
            right = np.full(100, share) + noise * NOISE
            probabilities = np.where(np.eye(2)[LABELS] == 1, right[:, None], 1 - right[:, None])
            Predictions(IDS[rows], LABELS[rows], probabilities[rows], ("a", "b"), groups).save(held_out_path(path))
        return Contender(name, kind, path, fields.pop("validation", 0.5), 1.0, "run", **fields)

    return make


def test_strategies_within_noise_of_the_lowest_held_out_loss_tie_with_it(contender):
    best, near, far = contender("best", 0.9), contender("near", 0.899, noise=1), contender("far", 0.85, noise=1)
    assert ties([far, near, best]) == [best, near]
    assert choose([far, near, best]).ties == ("best", "near")
    assert choose([far, near, best]).transfer is best
    assert choose([far, best]).ties == ()


def test_the_more_samples_were_held_out_the_smaller_is_the_difference_that_decides(contender):
    better, worse = contender("better", 0.9), contender("worse", 0.87)
    few = [contender(f"{name} of few", share, rows=slice(20)) for name, share in (("better", 0.9), ("worse", 0.87))]
    assert ties([worse, better]) == [better]
    assert ties(few[::-1]) == few
    assert [round(weight, 2) for _, weight in weights(few)] == [0.66, 0.34]


def test_more_strategies_than_can_have_a_tenth_of_the_weight_all_tie(contender):
    many = [contender(f"trial-{number}", 0.9 - number / 1e6, noise=number / 100) for number in range(12)]
    assert sum(weight for _, weight in weights(many)) == pytest.approx(1)
    assert choose(many).transfer is many[0]


def test_samples_that_belong_together_speak_as_one(contender):
    """One group of ten decides which is better, and might as well not have been drawn."""
    groups = np.repeat([f"speaker {number}" for number in range(10)], 10)
    better_there = np.where(groups == "speaker 0", 0.95, 0.7)
    for name, given, told in (("alone", None, ["better"]), ("together", groups, ["better", "worse"])):
        better, worse = (
            contender(f"better {name}", better_there, groups=given),
            contender(f"worse {name}", 0.7, groups=given),
        )
        assert ties([worse, better]) == [{"better": better, "worse": worse}[each] for each in told]


def test_in_an_average_samples_that_belong_together_speak_as_one_too(contender):
    groups = np.repeat([f"speaker {number}" for number in range(10)], 10)
    better_there = np.where(groups == "speaker 0", 0.99, 0.3)

    def weight(name, given):
        pair = [contender(f"{name} {share}", shares, groups=given) for share, shares in enumerate((better_there, 0.3))]
        return dict(weights_in_average([each.held_out for each in pair], [0, 1]))[0]

    assert 0.5 < weight("together", groups) < weight("alone", None) - 0.01


def test_the_metric_does_not_decide_where_predictions_were_held_out(contender):
    lucky, better = contender("lucky", 0.6, validation=1.0), contender("better", 0.9, validation=0.8)
    assert choose([lucky, better]).transfer is better


def test_of_strategies_that_predict_the_same_the_first_stands_for_all(contender):
    first, twin = contender("partial", 0.9), contender("full", 0.9)
    assert ties([first, twin]) == [first]


def test_contenders_are_compared_on_the_samples_that_all_of_them_have(contender):
    """A head is cross-validated on all samples, a network on some."""
    everywhere = contender("everywhere", 0.9)
    some = contender("some", 0.95, rows=slice(50, None, -1))
    assert ties([everywhere, some]) == [some]


def test_where_one_has_nothing_held_out_the_validation_metric_ranks_all(contender):
    old, new = contender("old", None, validation=0.9), contender("new", 0.9, validation=0.8)
    assert ties([new, old]) == [old]


def test_where_nothing_was_held_out_of_any_nothing_tells_them_apart(contender):
    strategies = [contender(name, None, validation=float("nan")) for name in ("zero", "full")]
    assert ties(strategies) == strategies


def test_what_learned_from_all_labels_goes_before_what_learned_from_none(contender):
    """With one label a class nothing can be held out, but zero transfer is judged on labels that it never learned."""
    zero = contender("zero", None, validation=0.9)
    full, partial = (contender(name, None, validation=float("nan")) for name in ("full", "partial"))
    assert ties([zero, full, partial]) == [full, partial]


def test_a_combination_of_those_that_tie_is_delivered_and_the_best_single_one_is_the_transfer(contender):
    best, near = contender("best", 0.9), contender("near", 0.899, noise=1)
    both = contender("ensemble", 0.9, members=("best", "near"))
    found = choose([best, near, both])
    assert (found.transfer, found.ties, found.delivered) == (best, ("best", "near"), both)


def test_a_better_baseline_is_part_of_the_combination_that_is_delivered(contender):
    full, scratch = contender("full", 0.9), contender("scratch", 0.91, kind="baseline")
    both = contender("ensemble", 0.9, members=("scratch", "full"))
    found = choose([full, scratch, both])
    assert (found.transfer, found.delivered, found.recommended) == (full, both, None)


def test_a_baseline_that_is_no_part_of_the_combination_and_better_is_delivered(contender):
    full, partial = contender("full", 0.9), contender("partial", 0.899, noise=1)
    both = contender("ensemble", 0.9, members=("full", "partial"))
    classical = contender("classical", 0.95, kind="baseline")
    assert choose([full, partial, classical, both]).delivered is classical
    assert choose([full, partial, replace(classical, path=contender("weak", 0.8).path), both]).delivered is both


def test_a_baseline_with_a_lower_held_out_loss_is_delivered_in_the_transfers_place(contender):
    full, scratch = contender("full", 0.9), contender("scratch", 0.95, kind="baseline")
    worse = contender("worse", 0.6, kind="baseline")
    assert choose([full, scratch, worse]).delivered is scratch
    assert choose([full, scratch, worse]).transfer is full
    assert choose([full, worse]).delivered is full


def test_a_baseline_of_which_predictions_alone_were_kept_is_recommended(contender):
    full, classical = contender("full", 0.9), contender("classical", 0.95, kind="baseline", kept=False)
    found = choose([full, classical])
    assert (found.delivered, found.recommended) == (full, classical)
    assert choose([full, contender("weak", 0.5, kind="baseline", kept=False)]).recommended is None


@pytest.fixture
def began(contender):
    """`began(name, share, head, kept)`: a strategy with this head on the source's features; a training that began with
    it has an epoch that was `kept`, and 0 is the start."""

    def make(name, share, head, **kept):
        made = contender(name, share, noise=1)
        known = {"architecture": "convnet", "modality": "image", "preprocessing": {}, "classes": ["a", "b"]}
        provenance = {"decisions": {"head": head}, **kept}
        write_json(
            made.path / "model.json",
            {"format_version": FORMAT_VERSION, **known, "temperature": 1.0, "provenance": provenance},
        )
        return made

    return make


def test_a_start_that_a_training_has_beaten_is_no_contender(began):
    """Whatever the kind of its head is: a training may be judged by one that learned from fewer labels."""
    probe, full = began("linear_probe", 0.9, "ridge"), began("full", 0.88, "nearest_class_mean", kept_epoch=5)
    assert unbeaten([probe, full]) == [full]
    assert choose([probe, full]).transfer is full


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        ({"head": "ridge"}, {"kept_epoch": 0}),
        ({"head": "source"}, {"kept_epoch": 5}),
        ({"head": "new"}, {"kept_epoch": 5}),
    ],
)
def test_a_start_that_was_kept_or_is_another_one_stays_a_contender(began, head, kept):
    probe, full = began("linear_probe", 0.9, "ridge"), began("full", 0.88, head["head"], **kept)
    assert unbeaten([probe, full]) == [probe, full]


def test_what_leaves_the_sources_own_head_has_beaten_zero_transfer(began):
    zero, probe, full = (
        began("zero", 0.9, "source"),
        began("linear_probe", 0.8, "ridge"),
        began("full", 0.88, "source", kept_epoch=None),
    )
    assert unbeaten([zero, probe, full]) == [probe, full]


def test_a_training_is_not_beaten_by_another_one(began):
    """One that keeps the start is the start, and stands for it where others left it."""
    partial, full = began("partial", 0.9, "ridge", kept_epoch=0), began("full", 0.88, "ridge", kept_epoch=5)
    assert unbeaten([partial, full]) == [partial, full]


def test_predictions_survive_the_file(contender):
    kept = contender("full", 0.9).held_out
    assert isinstance(kept, Predictions)
    assert kept.ids.tolist() == IDS.tolist()


def test_a_smaller_copy_that_ties_with_its_original_stands_in_its_place(contender):
    """It costs less to run; the original is neither chosen nor shown as one that ties."""
    full, small = contender("full", 0.9), contender("int8", 0.899, noise=1, original="full")
    other = contender("partial", 0.899, noise=-1)

    assert choose([full, small]).transfer is small
    assert choose([full, small]).delivered is small
    assert choose([full, small]).ties == ()
    assert set(choose([full, small, other]).ties) == {"int8", "partial"}


def test_a_smaller_copy_that_lost_by_it_is_not_chosen_whatever_else_there_is(contender):
    full, small = contender("full", 0.9), contender("int8", 0.8, original="full")
    assert choose([small, full]).transfer is full
    assert choose([small, full]).ties == ()


def test_a_smaller_copy_whose_original_is_not_there_is_a_contender_like_others(contender):
    small, other = contender("int8", 0.9, original="full"), contender("partial", 0.8)
    assert choose([other, small]).transfer is small
