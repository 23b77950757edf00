"""Trainings with other seeds."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from headstart.jobs.job import Job, train, transfer_job
from headstart.judging import retraining
from headstart.judging.retraining import read_retrained, retrain
from headstart.metrics.task import Calibration
from headstart.strategies.baseline import Like
from headstart.strategies.baselines.scratch import fit_scratch
from headstart.strategies.section import Strategy
from headstart.training import refit
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.supervised import weights_digest
from headstart.training.trained import predictions_of


@pytest.mark.parametrize("kept", [0, 2])
def test_trainings_with_other_seeds_follow_what_was_decided_of_the_start(
    renamed, source_path, tmp_path, monkeypatch, kept
):
    training = Training.of({"epochs": 2, "learning_rate": 5.0, "optimizer": "sgd", "precision": "fp32"})
    strategy = Strategy.model_validate("lp_ft")
    job = transfer_job(source_path, renamed.path, strategy, training=training, reference=None, digest=None)
    done, context = train(job, RunContext()), RunContext(cross_validate=False)
    done.bundle.provenance["kept_epoch"] = kept
    made = []

    def noted(job, context):
        made.append(train(job, context))
        return made[-1]

    monkeypatch.setattr(retraining, "train", noted)
    retrain(done, job, context, 3, tmp_path, renamed)

    told = [each.predicted.tolist() for each in read_retrained(tmp_path)]
    if kept == 0:
        assert made == []
        assert told == 2 * [predictions_of(done.bundle, renamed.split("test")).predicted.tolist()]
    else:
        # Each of them keeps what training makes of the start, however bad it is.
        assert [each.best_epoch for each in made] == [2, 2]
        assert {each.bundle.temperature for each in made} == {done.bundle.temperature}
        assert told == [predictions_of(each.bundle, renamed.split("test")).predicted.tolist() for each in made]
    assert train(replace(job, arguments={**job.arguments, "start_stays": True}), context).best_epoch == 0


@pytest.mark.parametrize("name", ["full", "lp_ft", "partial", "distill"])
def test_trainings_with_other_seeds_come_to_the_same_weights_without_the_one_that_judges(
    renamed, source_path, name, monkeypatch
):
    strategy, training = Strategy.model_validate(name), Training.of({"epochs": 2, "precision": "fp32"})
    job = transfer_job(source_path, renamed.path, strategy, training=training, reference=None, digest=None)
    job = replace(job, arguments={**job.arguments, "start_stays": False})
    context = RunContext(seed=3, cross_validate=False)

    judged, alone = train(job, context), train(job, replace(context, judge=False))

    assert judged.held_out is not None
    assert alone.held_out is None
    assert weights_digest(alone.bundle.network) == weights_digest(judged.bundle.network)
    # An epoch is chosen by as many held-out samples as tell one from another.
    monkeypatch.setattr(refit, "ENOUGH_TO_CHOOSE", 2)
    assert train(job, replace(context, judge=False)).held_out is not None


def test_a_baseline_is_trained_once_for_each_other_seed_and_comes_to_the_same(renamed, source):
    training = Training.of({"epochs": 2, "precision": "fp32"})
    context = RunContext(seed=3, cross_validate=False)

    judged, alone = (
        fit_scratch(Like.of(source), renamed, training, replace(context, judge=judge)) for judge in (True, False)
    )

    assert (judged.held_out is None, alone.held_out is None) == (False, True)
    assert weights_digest(alone.bundle.network) == weights_digest(judged.bundle.network)


def test_what_interpolates_with_its_start_needs_held_out_samples_for_every_seed(renamed, source_path):
    strategy, training = Strategy.model_validate("wise_ft"), Training.of({"epochs": 1, "precision": "fp32"})
    job = transfer_job(source_path, renamed.path, strategy, training=training, reference=None, digest=None)
    job = replace(job, arguments={**job.arguments, "start_stays": False})

    assert train(job, RunContext(cross_validate=False, judge=False)).held_out is not None


@pytest.mark.parametrize(("task", "judged"), [("single_label", False), ("regression", False), ("multi_label", True)])
def test_held_out_samples_judge_other_seeds_where_they_choose_thresholds(tmp_path, monkeypatch, task, judged):
    asked = []

    def noted(job, context):
        asked.append(context.judge)
        return SimpleNamespace(bundle=SimpleNamespace(), save_predictions=lambda place, dataset: None)

    monkeypatch.setattr(retraining, "train", noted)
    first = SimpleNamespace(calibration=Calibration(2.0))
    done = SimpleNamespace(history=[{"epoch": 1}], keeps_start=False, bundle=first)
    job = Job("baseline", tmp_path, None, {})
    retrain(done, job, RunContext(), 3, tmp_path, SimpleNamespace(task=task))

    assert asked == [judged, judged]
