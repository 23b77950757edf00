"""The search: what is tried first, what is kept, and that an interrupted one goes on as one that was not."""

import os
import signal

import pytest

from headstart.errors import HeadstartError, InputError
from headstart.searching import proposals, study

RATES = {"strategies": ["full"], "settings": {"learning_rate": {"low": 3e-5, "high": 1e-2}}}


@pytest.fixture
def soon(monkeypatch) -> None:
    """TPE and the end of a space that has nothing new come after few trials."""
    monkeypatch.setattr(study, "_RANDOM", 3)
    monkeypatch.setattr(proposals, "_REPEATS", 5)


def contents(played) -> list[dict]:
    return [{key: value for key, value in each.items() if key != "name"} for each in played.tried]


def test_a_search_finds_better_settings_than_the_recipe_has(search_of, played, soon):
    found = search_of({"name": "full", "transfer": "full", "learning_rate": 3e-5}, **RATES).run(3, trials=16)

    assert len(found.tried) == len(played.tried) == 16
    assert found.tried[0].name == "full"
    best = found.best[0]
    assert best.loss < 0.5 * found.tried[0].loss
    assert 3e-4 < best.strategy["learning_rate"] < 3e-3
    assert [each.loss for each in found.best] == sorted(each.loss for each in found.best)
    assert len(found.best) == 3
    assert found.final_seconds == 6.0


def test_every_source_is_probed_first_and_the_rest_begins_on_the_best(search_of, played):
    search = search_of("zero", "full", sources=("poor", "good"), strategies=["zero", "linear_probe", "full", "partial"])
    found = search.run(3, trials=6)

    begun = [(each["source"], each["name"]) for each in played.tried[:5]]
    assert begun == [
        ("poor", "linear_probe"), ("good", "linear_probe"),
        ("good", "zero"), ("good", "full"), ("good", "partial"),
    ]  # fmt: skip
    assert {each.source for each in found.best} == {"good"}


def test_what_was_tried_is_not_tried_again_and_a_small_space_ends(search_of, played, soon):
    found = search_of(strategies=["full"], settings={key: [1] for key in ("epochs",)} | {
        "learning_rate": [0.001, 0.01], "layer_decay": [1.0], "regularizer": [None], "schedule": ["constant"],
        "augmentation": ["none"],
    }).run(3)  # fmt: skip

    assert found.reason == "every configuration was tried"
    assert len(played.tried) == len({str(each) for each in contents(played)}) == 3


def test_configurations_that_predict_the_same_are_one(search_of, played, soon):
    found = search_of("zero", "linear_probe", strategies=["zero", "linear_probe"]).run(3)

    assert len(found.tried) == 2
    assert len(found.best) == 1


def test_an_interrupted_search_tries_the_same_as_one_that_was_not(search_of, played, soon, tmp_path):
    search_of("zero", **RATES).run(3, trials=8)
    whole, played.tried[:] = contents(played), []
    (tmp_path / "study.db").unlink()

    def interrupt(number, given):
        if number == 6:
            raise KeyboardInterrupt

    played.at = interrupt
    with pytest.raises(KeyboardInterrupt):
        search_of("zero", **RATES).run(3, trials=8)
    search_of("zero", **RATES).run(3, trials=8)

    assert contents(played)[5] == contents(played)[6]
    # The number of a trial is part of what TPE draws by: what was interrupted has one more.
    assert contents(played)[:6] == whole[:6]
    assert len(played.tried) == 9


def test_a_search_that_was_killed_goes_on_with_the_trials_that_are_there(search_of, played, tmp_path):
    def kill(number, given):
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        played.at = kill
        search_of("zero", **RATES).run(3, trials=6)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    search = search_of("zero", **RATES)
    assert len(search.study.tried) == 3
    assert search.study.waiting == 1
    found = search.run(3, trials=6)
    assert len(played.tried) == 3
    assert len({each.number for each in found.tried}) == 6


def test_a_budget_of_seconds_ends_and_a_larger_one_goes_on_with_what_it_cut_short(search_of, played):
    search = search_of("zero", **RATES)

    def end(number, given):
        if number == 4:
            search.clock.limit = 0.0

    played.at = end
    found = search.run(3)
    assert found.reason == "the 0 minutes were over"
    assert len(found.tried) == 3
    assert search.study.facts["seconds"] > 0

    further = search_of("zero", **RATES).run(3, trials=4)
    assert len(further.tried) == 4
    assert contents(played)[3] == contents(played)[4]


def test_a_budget_that_no_trial_ends_in_is_named(search_of, played):
    search = search_of("zero", **RATES, limit=1e-9)
    with pytest.raises(HeadstartError, match=r"No trial is complete within .* give more --minutes"):
        search.run(3)


def test_a_trial_behind_the_others_is_pruned_but_never_one_of_the_recipes_own(search_of, played, recorded):
    def fall_behind(number, given):
        given["on_quarter"](1, 9.0 if number in (1, 9) else 0.1)
        given["on_epoch"](1, {"val/loss": 0.1})

    played.at = fall_behind
    search = search_of({"name": "full", "transfer": "full", "learning_rate": 3e-5}, **RATES)
    found = search.run(3, trials=10)

    assert [each.number for each in found.tried if each.state == "pruned"] == [8]
    assert "above the median" in found.tried[8].reason
    assert found.tried[8].loss is None
    runs = {run.info.run_name: run for run in recorded.client.search_runs([recorded.experiment_id])}
    assert len(runs) == 11
    pruned = runs[found.tried[8].name]
    assert pruned.data.tags["headstart.trial.state"] == "pruned"
    assert pruned.data.tags["headstart.role"] == "trial"
    assert pruned.data.tags["mlflow.parentRunId"] == recorded.id
    assert "val/log_loss" not in pruned.data.metrics
    best = runs[found.best[0].name]
    assert best.data.metrics["val/log_loss"] == pytest.approx(found.best[0].loss)
    assert float(best.data.params["learning_rate"]) == found.best[0].strategy["learning_rate"]


def test_a_trial_that_cannot_be_trained_ends_as_a_failure_and_the_search_goes_on(search_of, played):
    def diverge(number, given):
        if number == 2:
            raise HeadstartError("full: the loss became nan in epoch 1; lower learning_rate.")

    played.at = diverge
    found = search_of("zero", **RATES).run(3, trials=4)
    assert [each.state for each in found.tried] == ["complete", "failed", "complete", "complete"]
    assert "lower learning_rate" in found.tried[1].reason


def test_a_search_in_which_everything_fails_ends_with_the_reason(search_of, played):
    def refuse(number, given):
        raise InputError("The source reads audio and the target is image; choose another source.")

    played.at = refuse
    with pytest.raises(HeadstartError, match="No trial is complete: The source reads audio"):
        search_of("zero", **RATES).run(3)
    assert len(played.tried) == 5


def test_trials_that_held_out_labels_do_not_tell_apart_are_named(search_of, played):
    near = {"learning_rate": [0.001, 0.00101]}
    found = search_of(strategies=["full"], settings=near).run(3, trials=8)

    assert len(found.ties) > 1
    assert found.ties[0] == found.best[0].name
