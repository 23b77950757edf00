"""A network whose epochs ran out before it had learned its own training samples is told from one that was finished."""

from dataclasses import replace

import pytest

from headstart.features.heads import ridge
from headstart.judging.assessment import evaluate
from headstart.judging.learned import unlearned
from headstart.judging.section import Evaluation
from headstart.models.bundle import ModelBundle
from headstart.training.trained import predictions_of

LONG = [{"epoch": number} for number in range(1, 21)]


@pytest.fixture
def scratch(contenders):
    """A network with a random head, which is right on a third of its training samples."""
    return ModelBundle.load(contenders["scratch"].path)


def with_epochs(bundle, history, kept):
    return replace(bundle, provenance={**bundle.provenance, "history": history, "kept_epoch": kept})


def test_the_accuracy_on_its_training_samples_is_told_where_its_epochs_ran_out(scratch, dataset):
    train = dataset.split("train")
    expected = (predictions_of(scratch, train).predicted == train.labels).mean()
    assert unlearned(with_epochs(scratch, LONG, 20), dataset) == pytest.approx(expected)
    assert expected < 0.9


def test_one_that_ended_as_nothing_got_better_was_trained_to_its_end(scratch, dataset):
    assert unlearned(with_epochs(scratch, LONG, 10), dataset) is None


def test_one_that_knows_its_training_samples_was_trained_to_its_end(contenders, dataset):
    knows = ModelBundle.load(contenders["zero"].path)
    train = dataset.split("train")
    ridge(knows.predict_features(train.samples), train.labels, 3).install(knows.network)
    assert unlearned(with_epochs(knows, LONG, 20), dataset) is None


def test_where_the_epochs_are_not_known_nothing_is_told(scratch, dataset):
    assert unlearned(replace(scratch, provenance={}), dataset) is None


def test_an_assessment_tells_it_of_its_baselines(contenders, dataset, tmp_path):
    judged = [contenders["zero"], contenders["scratch"]]
    board = evaluate(judged, dataset, tmp_path, evaluation=Evaluation(resamples=200)).leaderboard
    (over_scratch,) = (each for each in board.comparisons if each.baseline == "scratch")
    assert over_scratch.learned < 0.9
    assert board.verdict == "no evidence"
