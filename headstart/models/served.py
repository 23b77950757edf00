"""A bundle as one module that reads stored samples, or what preprocessing makes of them where that is no part of a
program: what the exported programs compute."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import modality
from headstart.modalities.batch import Batch, Inputs
from headstart.models.bundle import ModelBundle


class Reading(nn.Module):
    """A batch of `stored_tensors`, one tensor or several, to what the network's first stage reads."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__()
        self.preprocessing = bundle.preprocessing
        self.names = tuple(stored_tensors(bundle, bundle.preprocessing.noise(2)))

    def inputs(self, *tensors: Tensor) -> Inputs:
        batch = tensors[0] if len(tensors) == 1 else Batch(dict(zip(self.names, tensors, strict=True)))
        return self.preprocessing(batch) if self.preprocessing.in_programs else batch

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        inputs = self.inputs(*tensors)
        return inputs if isinstance(inputs, Tensor) else tuple(inputs.tensors.values())


class Answering(nn.Module):
    """Logits (N, K) to class probabilities (N, K), to those of labels with their thresholds (N, K, 2), or to a number
    with its deviation and margin (N, 3); features (N, D) as they are where the model knows no classes."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__()
        self.temperature = bundle.temperature
        self.classifies = bool(bundle.classes)
        self.margin = None
        if bundle.task == REGRESSION:
            self.margin = math.nan if bundle.margin is None else bundle.margin
        self.thresholds: tuple[float, ...] | None = None
        if bundle.task == MULTI_LABEL:
            self.thresholds = bundle.thresholds or (0.5,) * len(bundle.classes)

    def forward(self, *tensors: Tensor) -> Tensor:
        (outputs,) = tensors
        if self.margin is not None:
            bounds = [outputs, torch.full_like(outputs, self.temperature), torch.full_like(outputs, self.margin)]
            return torch.cat(bounds, dim=1)
        if self.thresholds is not None:
            chances = torch.sigmoid(outputs / self.temperature)
            return torch.stack([chances, torch.zeros_like(chances) + chances.new_tensor(self.thresholds)], dim=2)
        return torch.softmax(outputs / self.temperature, dim=1) if self.classifies else outputs


class Served(nn.Module):
    """A batch of `stored_tensors`, one tensor or several, to what `Answering` makes of the network's logits."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__()
        # A head without outputs cannot be part of a program.
        self.network = bundle.network if bundle.classes else nn.Sequential(*bundle.network.stages)
        self.reading, self.answering = Reading(bundle), Answering(bundle)

    def forward(self, *tensors: Tensor) -> Tensor:
        answers: Tensor = self.answering(self.network(self.reading.inputs(*tensors)))
        return answers


def stored_tensors(bundle: ModelBundle, samples: Any) -> dict[str, Tensor]:
    """The tensors that an exported program reads for stored samples, by the names of its inputs."""
    kind = modality(bundle.modality)
    batch = kind.batch(samples)
    if not bundle.preprocessing.in_programs:
        batch = bundle.preprocessing(batch)
    return {f"{kind.name}s": batch} if isinstance(batch, Tensor) else dict(batch.tensors)


def free_sizes(bundle: ModelBundle, tensors: dict[str, Tensor]) -> tuple[dict[int, Any], ...]:
    """The sizes of each tensor that an exported program leaves open: the batch's, and with several tensors the
    samples' length, as far as the model reads."""
    free = {0: torch.export.Dim("N")}
    if len(tensors) > 1:
        reads = bundle.preprocessing
        free[1] = torch.export.Dim("L", min=reads.shortest_input, max=reads.longest_input)
    return tuple(free for _ in tensors)
