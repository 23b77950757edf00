"""Feeds: the inputs of the first stage that trains, in batches."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch

from headstart.data.dataset import Dataset
from headstart.modalities.batch import Inputs
from headstart.modalities.preprocessing import Preprocessing
from headstart.training.batches import epoch_batches, shares
from headstart.training.distributed import current_group
from headstart.training.draws import uniforms
from headstart.training.loader import Loader
from headstart.training.plan import Plan


class Feed(Protocol):
    """The inputs of stage `stage`, the first that trains: preprocessed samples for stage 0, for a later one the outputs
    of the frozen stages. The inputs of a sample are a function of (seed, epoch, sample)."""

    stage: int

    def example(self, count: int) -> Inputs:
        """Inputs of `count` samples, of any values, on the training device."""

    def ready(self, pause: Callable[[], None]) -> None:
        """Prepares the data that `batch` reads; calls `pause` now and then if that takes long."""

    def batch(self, chosen: np.ndarray, epoch: int) -> Inputs:
        """The inputs of the training samples at the positions `chosen`, in their order, on the training device."""

    def validation(self, part: slice) -> Iterator[Inputs]:
        """The inputs of the validation samples in `part`, in order and not augmented, in batches."""


class SampleFeed:
    """Stored samples, augmented as the plan says and preprocessed, both on the training device."""

    stage = 0

    def __init__(
        self, dataset: Dataset, preprocessing: Preprocessing, plan: Plan, *, seed: int, device: torch.device
    ) -> None:
        self._kind, plan = dataset.kind, plan.suited_to(dataset.kind)
        self._train = training_loader(dataset, plan, seed=seed, device=device)
        self._val = dataset.samples("val")
        self._preprocessing, self._plan, self._seed, self._device = preprocessing, plan, seed, device

    def example(self, count: int) -> Inputs:
        return self._preprocessing.example(count).to(self._device)

    def ready(self, pause: Callable[[], None]) -> None:
        """Does nothing: samples are read as they are stored."""

    def batch(self, chosen: np.ndarray, epoch: int) -> Inputs:
        samples = self._train.read(chosen, epoch)
        if self._plan.augmentation != "none":
            draws = torch.from_numpy(uniforms(self._seed, epoch, chosen, self._kind.draws_per_sample))
            samples = self._kind.augment(
                samples,
                draws,
                method=self._plan.augmentation,
                strength=self._plan.strength,
                flip=self._plan.flip,
            )
        return self._preprocessing(samples)

    def validation(self, part: slice) -> Iterator[Inputs]:
        step = self._preprocessing.samples_at_once(self._device)
        batches = [np.arange(start, min(start + step, part.stop)) for start in range(part.start, part.stop, step)]
        loader = Loader(self._val, self._kind, self._device, lambda _: batches)
        for batch in batches:
            yield self._preprocessing(loader.read(batch, epoch=0))


def training_loader(dataset: Dataset, plan: Plan, *, seed: int, device: torch.device) -> Loader:
    """The loader of this process's share of the batches of a training on `dataset`."""
    group, samples = current_group(), dataset.samples("train")

    def order(epoch: int) -> list[np.ndarray]:
        batches = epoch_batches(len(samples), plan.batch_size, seed=seed, epoch=epoch, blocks=loader.blocks)
        cut = (plan.accumulate, group.rank, group.size, loader.blocks)
        return [mine for batch in batches for mine in shares(batch, *cut)]

    loader = Loader(samples, dataset.kind, device, order)
    return loader
