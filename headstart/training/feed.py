"""What a training reads: the inputs of the first stage that trains."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from headstart.data.dataset import Dataset
from headstart.modalities import modality
from headstart.models.preprocessing import Preprocessing
from headstart.training.draws import uniforms
from headstart.training.plan import Plan

_VALIDATION_BATCH = 256


class Feed(Protocol):
    """The inputs of stage `stage`, the first that trains: preprocessed images for stage 0, and what the frozen stages
    make of them for a later one. A batch holds what belongs to (seed, epoch, sample) for each sample in it."""

    stage: int

    def batch(self, chosen: np.ndarray, epoch: int) -> Tensor:
        """The inputs of the training samples at the positions `chosen`, in their order, on the training device."""

    def validation(self, part: slice) -> Iterator[Tensor]:
        """The inputs of the validation samples in `part`, in order and as they are, in batches."""


class SampleFeed:
    """Stored samples, augmented as the plan says and preprocessed, both on the training device."""

    stage = 0

    def __init__(
        self, dataset: Dataset, preprocessing: Preprocessing, plan: Plan, *, seed: int, device: torch.device
    ) -> None:
        self._train = dataset.split("train").samples
        self._val = dataset.split("val").samples
        self._kind = modality(dataset.modality)
        self._preprocessing, self._plan, self._seed, self._device = preprocessing, plan, seed, device

    def batch(self, chosen: np.ndarray, epoch: int) -> Tensor:
        # Choosing copies: memory-mapped rows are read-only, which torch does not take.
        samples = torch.from_numpy(np.take(self._train, chosen, axis=0)).to(self._device, non_blocking=True)
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

    def validation(self, part: slice) -> Iterator[Tensor]:
        for start in range(part.start, part.stop, _VALIDATION_BATCH):
            stop = min(start + _VALIDATION_BATCH, part.stop)
            samples = torch.from_numpy(np.array(self._val[start:stop])).to(self._device, non_blocking=True)
            yield self._preprocessing(samples)
