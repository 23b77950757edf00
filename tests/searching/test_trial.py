"""A trial: it learns and is judged as a run's step is, without the test split and without a refit."""

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.jobs.job import train, transfer_job
from headstart.models.bundle import bundle_digest
from headstart.searching.trial import Goal, attempt
from headstart.strategies.section import Strategy
from headstart.training import supervised
from headstart.training.context import RunContext
from headstart.training.section import Training

TRAINING = Training(epochs=4, batch_size=16, precision="fp32", layout="contiguous", compile="off", augmentation="none")


@pytest.fixture
def goal(renamed) -> Goal:
    return Goal(renamed, TRAINING, "accuracy", seed=0)


@pytest.fixture
def tried(goal, source_path):
    """Tries a strategy given as in a recipe."""

    def run(strategy: object, **told: object):
        section = Strategy.model_validate(strategy)
        return attempt(section, source_path, goal, reference="a", digest=bundle_digest(source_path), **told)

    return run


@pytest.mark.parametrize("strategy", ["zero", "linear_probe", "partial"])
def test_a_trial_reads_no_test_sample_and_is_judged_as_the_run_judges(tried, goal, source_path, strategy, monkeypatch):
    read: list[str] = []
    split = Dataset.split

    def noted(self: Dataset, name: str):
        read.append(name)
        return split(self, name)

    monkeypatch.setattr(Dataset, "split", noted)
    fields, held_out = tried(strategy)
    assert "test" not in read
    assert set(held_out.ids.tolist()) == goal.judged()
    assert fields["loss"] == pytest.approx(held_out.losses.mean())
    assert fields["low"] <= fields["value"] == (held_out.predicted == held_out.labels).mean() <= fields["high"]

    job = transfer_job(
        source_path, goal.dataset.path, Strategy.model_validate(strategy), training=TRAINING, reference="a", digest="b"
    )
    judged = train(job, RunContext()).held_out
    rows = {name: row for row, name in enumerate(judged.ids.tolist())}
    theirs = judged.probabilities[[rows[name] for name in held_out.ids.tolist()]]
    np.testing.assert_allclose(held_out.probabilities, theirs, atol=1e-5)


def test_nothing_is_refitted_and_each_quarter_tells_the_best_loss_so_far(tried, goal, monkeypatch):
    fitted, quarters, curve = [], [], []
    minimise = supervised.minimise
    monkeypatch.setattr(supervised, "minimise", lambda *a, **k: fitted.append(k["name"]) or minimise(*a, **k))
    tried("full", on_quarter=lambda *told: quarters.append(told), on_epoch=lambda *told: curve.append(told))

    assert fitted
    assert not [name for name in fitted if "all labels" in name]
    losses = [figures["val/loss"] for _, figures in curve]
    assert quarters == [(quarter, min(losses[: quarter + 1])) for quarter in (1, 2, 3)]
