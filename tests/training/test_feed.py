"""The batches that a training reads are a function of (seed, epoch, sample), however the samples are kept and read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.modalities import modality
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.training import feed as feed_module
from headstart.training.batches import epoch_batches, shares
from headstart.training.distributed import Group
from headstart.training.draws import uniforms
from headstart.training.feed import SampleFeed, training_loader
from headstart.training.plan import Plan

CPU = torch.device("cpu")
SEED = 5
PREPROCESSING = Preprocessing(16, 1, mean=(0.4,), std=(0.3,))


@pytest.fixture
def dataset(request: pytest.FixtureRequest, threes_and_eights, encoded_threes_and_eights) -> Dataset:
    return {"raw": threes_and_eights, "jpeg": encoded_threes_and_eights}[request.param]


both_stores = pytest.mark.parametrize("dataset", ["raw", "jpeg"], indirect=True)


def sampled(dataset: Dataset, plan: Plan) -> SampleFeed:
    return SampleFeed(dataset, PREPROCESSING, plan, seed=SEED, device=CPU)


def one_by_one(dataset: Dataset, plan: Plan, chosen: np.ndarray, epoch: int) -> torch.Tensor:
    """A batch, each sample of which is read, augmented and preprocessed by itself."""
    kind, batch = modality("image"), []
    for position in chosen:
        sample = torch.from_numpy(np.array(dataset.samples("train")[[position]]))
        if plan.augmentation != "none":
            draws = torch.from_numpy(uniforms(SEED, epoch, np.array([position]), kind.draws_per_sample))
            sample = kind.augment(sample, draws, method=plan.augmentation, strength=plan.strength, flip=plan.flip)
        batch.append(PREPROCESSING(sample))
    return torch.cat(batch)


@both_stores
@pytest.mark.parametrize("augmentation", ["none", "crop", "affine"])
def test_a_batch_holds_what_belongs_to_each_of_its_samples(dataset, plan, augmentation):
    settings = plan(dataset, augmentation=augmentation, flip=augmentation != "none")
    feed = sampled(dataset, settings)
    for epoch in (1, 2):
        for chosen in epoch_batches(dataset.counts["train"], settings.batch_size, seed=SEED, epoch=epoch):
            assert torch.equal(feed.batch(chosen, epoch), one_by_one(dataset, settings, chosen, epoch))


@both_stores
def test_validation_samples_come_in_order_and_as_they_are(dataset, plan, monkeypatch):
    monkeypatch.setattr(type(PREPROCESSING), "samples_at_once", lambda self, device: 3)
    feed = sampled(dataset, plan(dataset, augmentation="crop", flip=True))
    batches = list(feed.validation(slice(2, 10)))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert torch.equal(torch.cat(batches), PREPROCESSING(torch.from_numpy(dataset.samples("val")[np.arange(2, 10)])))
    assert list(feed.validation(slice(4, 4))) == []


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_process_reads_its_own_share_of_every_micro_batch(threes_and_eights, plan, monkeypatch, size):
    settings = replace(plan(threes_and_eights), accumulate=2)
    samples = threes_and_eights.samples("train")
    orders = []
    for rank in range(size):
        monkeypatch.setattr(feed_module, "current_group", lambda rank=rank: Group(rank, size))
        orders.append(training_loader(threes_and_eights, settings, seed=SEED, device=CPU)._order(4))
    batches = epoch_batches(len(samples), settings.batch_size, seed=SEED, epoch=4)
    micro_batches = [piece for batch in batches for piece in shares(batch, 2, 0, 1)]
    for pieces, whole in zip(zip(*orders, strict=True), micro_batches, strict=True):
        assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(np.concatenate(micro_batches), np.concatenate(batches))
