"""Trainings with other seeds."""

from dataclasses import replace

import pytest

from headstart.jobs.job import train, transfer_job
from headstart.judging import retraining
from headstart.judging.retraining import read_retrained, retrain
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.section import Training
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

    told = [each.tolist() for each in read_retrained(tmp_path)]
    if kept == 0:
        assert made == []
        assert told == 2 * [predictions_of(done.bundle, renamed.split("test")).predicted.tolist()]
    else:
        # Each of them keeps what training makes of the start, however bad it is.
        assert [each.best_epoch for each in made] == [2, 2]
        assert told == [predictions_of(each.bundle, renamed.split("test")).predicted.tolist() for each in made]
    assert train(replace(job, arguments={**job.arguments, "start_stays": True}), context).best_epoch == 0
