from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.assessment import Assessment
from headstart.judging.contenders import Contender
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.savings import Cost, Saving, savings
from headstart.judging.section import Evaluation
from tests.judging.boards import candidate_of

FULL = [{"transfer": "full", "name": "full"}, {"transfer": "partial", "name": "partial"}]


def epochs(*scores):
    return [{"epoch": number, "val/accuracy": score} for number, score in enumerate(scores, start=1)]


@pytest.fixture
def saved(contenders, dataset, tmp_path):
    """What strategies save, given by name with the seconds, the validation metric and that of each epoch."""
    labels = np.arange(30) % 3

    def run(trained, *, unlearned=None, **options):
        made, history = [], {}
        for name, (seconds, validation, scores) in trained.items():
            kind = "baseline" if name == "scratch" else "transfer"
            made.append(Contender(name, kind, contenders["scratch"].path, validation, seconds, "run"))
            if scores:
                history[name] = epochs(*scores)
        tested = [candidate_of(each.strategy, each.kind, labels, np.eye(3)[labels], each.validation) for each in made]
        board = build_leaderboard(tested, Evaluation(resamples=100), unlearned=unlearned or {})
        return savings(Assessment(board, {}, tuple(made), tmp_path, history, {}), dataset, FULL, **options)

    return run


def test_both_costs_are_to_the_same_accuracy_and_an_epoch_has_its_share_of_the_seconds(saved, dataset):
    found = saved({"full": (40, 0.9, [0.7, 0.8, 0.85, 0.9]), "scratch": (100, 0.8, [0.3, 0.5, 0.6, 0.8, 0.7])})["full"]
    assert found.level == 0.8
    assert (found.transfer.seconds, found.transfer.epochs) == (20, 2)
    assert (found.scratch.seconds, found.scratch.epochs) == (80, 4)
    assert found.seconds == 60
    # Both train all stages of one network on the same samples.
    assert found.scratch.flops == 2 * found.transfer.flops > 0
    # Backward takes twice the operations of forward, whose first convolution alone has 9 products a pixel and channel.
    assert found.transfer.flops > 2 * 3 * len(dataset.split("train").labels) * 2 * 9 * 16 * 16


def test_a_transfer_that_ends_below_scratch_is_compared_at_its_own_accuracy(saved):
    found = saved({"full": (40, 0.6, [0.5, 0.6]), "scratch": (100, 0.9, [0.6, 0.8, 0.9, 0.9])})["full"]
    assert (found.level, found.transfer.seconds, found.scratch.seconds) == (0.6, 40, 25)
    assert found.seconds == -15
    assert replace(found, pretraining=10).targets is None


def test_without_epochs_all_seconds_count_and_with_frozen_stages_operations_are_not_known(
    saved,
):
    trained = {"zero": (2, 0.85, []), "partial": (20, 0.9, [0.85, 0.9]), "scratch": (100, 0.8, [0.4, 0.8])}
    found = saved(trained)
    assert found["zero"].transfer == Cost(2, 0)
    assert found["partial"].transfer == Cost(10, 1)
    assert found["partial"].figures["saving/flops"] is None


def test_nothing_is_said_where_it_cannot_be_known(saved):
    full = (40, 0.9, [0.7, 0.9])
    assert saved({"full": full}) == {}
    assert saved({"full": full, "scratch": (100, 0.8, [])}) == {}
    # The kept weights are between epochs, none of which is as good.
    assert saved({"full": (40, 0.9, [0.5, 0.6]), "scratch": (100, 0.8, [0.8])}) == {}
    assert saved({"full": (0, 0.9, [0.9]), "scratch": (100, 0.8, [0.8])}) == {}
    # What epochs that ran out had reached is no accuracy to compare at.
    trained = {"full": full, "scratch": (100, 0.8, [0.7, 0.8])}
    assert saved(trained)
    assert saved(trained, unlearned={"scratch": 0.3}) == {}


@pytest.mark.parametrize(("pretraining", "targets"), [(None, None), (10, 1), (60, 1), (61, 2), (600, 10)])
def test_the_pretraining_has_paid_after_as_many_targets_as_save_its_seconds(pretraining, targets):
    assert Saving(0.8, Cost(20, 2), Cost(80, 4), pretraining).targets == targets


def test_the_figures_are_those_of_the_record(assessment):
    with_savings = replace(assessment, savings={"zero": Saving(0.8, Cost(20, 2), Cost(80, 4), 90.0)})
    figures = with_savings.figures("zero")
    assert {name: value for name, value in figures.items() if name.startswith("saving/")} == {
        "saving/seconds": 60, "saving/pretraining_seconds": 90.0, "saving/targets": 2
    }  # fmt: skip
    assert not [name for name in with_savings.figures("scratch") if name.startswith("saving/")]
