"""Outputs of the frozen first stages of a network: how they are computed, and what decides them."""

import contextlib
import copy
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Split
from headstart.modalities import modality
from headstart.modalities.batch import Inputs
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import evaluated
from headstart.storage.state import State
from headstart.training.draws import uniforms
from headstart.training.engine import training_device
from headstart.training.flops import count_flops
from headstart.training.loader import Loader
from headstart.training.memory import kept_memory
from headstart.training.speed import Speed, forward_precision, host_precision, precisions
from headstart.training.supervised import weights_digest
from headstart.version import CODE_VARIABLE

# Work of fewer operations, a second of one core, is done in fp32; that of more in the precision in which this machine
# is faster at convolutions, and that of yet more in the one in which these stages are.
_CONSIDERED_OPERATIONS = 5e10
_MEASURED_OPERATIONS = 4e12
_MEASURED_SAMPLES = 4
_CHANNELS_LAST = Speed(channels_last=True)


@dataclass(frozen=True)
class Views:
    """`count` variants of each sample by a modality's augmentation."""

    count: int
    seed: int
    method: str
    strength: float
    flip: bool


@dataclass(frozen=True)
class FrozenStages:
    """The first `count` stages of a bundle's network, which compute `rows` rows in all."""

    bundle: ModelBundle
    count: int
    precision: str
    """fp32, bf16 or auto"""
    rows: int

    @property
    def are_all(self) -> bool:
        """Whether their outputs are feature vectors."""
        return self.count == len(self.bundle.network.stages)

    @cached_property
    def digest(self) -> str:
        return weights_digest(self.bundle.network.stages[: self.count])

    @contextlib.contextmanager
    def on_device(self) -> Iterator[nn.ModuleList]:
        """The stages on the training device, in eval mode.

        Stages that are there already are not copied (a copy of ResNet-18's takes 3% of the time of 100 images), and are
        left in the modes that they were in.
        """
        network, device = self.bundle.network, training_device()
        if next(network.parameters()).device != device:
            yield copy.deepcopy(network.stages[: self.count]).to(device).eval()
            return
        with evaluated(network):
            yield network.stages[: self.count]

    @property
    def operations(self) -> int:
        """Floating-point operations per row."""
        return self._one_row[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self._one_row[1]

    @property
    def can_be_kept(self) -> bool:
        """Whether their outputs are arrays of one shape for all samples."""
        return self.are_all or isinstance(self.bundle.preprocessing.example(1), Tensor)

    @cached_property
    def _one_row(self) -> tuple[int, tuple[int, ...]]:
        inputs = self.bundle.preprocessing.example(1).to(training_device())
        if isinstance(inputs, Tensor):
            inputs.requires_grad_()
        with self.on_device() as stages:
            operations, outputs = count_flops(lambda: _forward(stages, _CHANNELS_LAST.laid_out(inputs)))
        return operations, tuple(outputs.shape[1:])

    @property
    def row_bytes(self) -> int:
        if self.are_all:
            return 4 * self.bundle.network.feature_dim
        return math.prod(self.shape) * (2 if self.precision == "bf16" else 4)

    def choose_precision(self, state: State | None) -> str:
        """The pinned precision, or the fastest: bf16 on GPUs that compute in it, and on processors where it measures
        faster; work of seconds is done in fp32, unless these stages were measured before."""
        device = training_device()
        offered = precisions(device) if self.precision == "auto" else [self.precision]
        if device.type == "cuda" or len(offered) == 1:
            return offered[-1]
        work = self.operations * self.rows
        example = self.bundle.preprocessing.example(_MEASURED_SAMPLES)
        network = nn.Sequential(*self.bundle.network.stages[: self.count])
        measured = forward_precision(network, example, state, measure=work >= _MEASURED_OPERATIONS)
        if measured:
            return measured
        return host_precision(device, state) if work >= _CONSIDERED_OPERATIONS else offered[0]


@dataclass(frozen=True)
class FrozenOutputs:
    """The outputs of frozen stages for a split.

    Row v · N + i is view v of sample i. Feature vectors are float32. Feature maps have the type that their last stage
    computes in, bfloat16 as the bits of uint16, and the order (N, H, W, C), in which training reads them.
    """

    stages: FrozenStages
    split: Split
    views: Views | None

    @property
    def rows(self) -> int:
        return len(self.split.labels) * (1 if self.views is None else self.views.count)

    @cached_property
    def key(self) -> str:
        """A digest of everything that decides the outputs."""
        bundle = self.stages.bundle
        ids = hashlib.sha256("\n".join(self.split.ids.tolist()).encode()).hexdigest()
        content = {
            "weights": self.stages.digest,
            "architecture": bundle.architecture,
            "vectors": self.stages.are_all,
            "preprocessing": bundle.preprocessing.to_dict(),
            "samples": [ids, self.split.store, *self.split.samples.shape],
            "views": None if self.views is None else [bundle.modality, *asdict(self.views).values()],
            "precision": self.stages.precision,
            "device": training_device().type,
            "versions": versions(),
            "code": os.environ.get(CODE_VARIABLE),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def batches(self, precision: str, first: int = 0) -> Iterator[np.ndarray]:
        """The rows in their order, from row `first` on, at which a batch must begin."""
        device, samples = training_device(), len(self.split.labels)
        count = self.stages.bundle.preprocessing.samples_at_once(device)
        # Of nearly one size, since a last one of few samples would take long for what it is.
        batches = np.array_split(np.arange(samples), max(1, round(samples / count)))
        speed = replace(_CHANNELS_LAST, precision=precision)
        loader = Loader(self.split.samples, modality(self.stages.bundle.modality), device, lambda _: batches)
        with kept_memory(), self.stages.on_device() as stages:
            for view in range(1 if self.views is None else self.views.count):
                for rows in batches:
                    if view * samples + rows[0] >= first:
                        inputs = self._inputs(loader.read(rows, view), rows, view)
                        yield self._stored(self._outputs(stages, inputs, speed))

    def _inputs(self, samples: Inputs, rows: np.ndarray, view: int) -> Inputs:
        bundle, views = self.stages.bundle, self.views
        if views is not None:
            kind = modality(bundle.modality)
            draws = torch.from_numpy(uniforms(views.seed, view, rows, kind.draws_per_sample))
            samples = kind.augment(samples, draws, method=views.method, strength=views.strength, flip=views.flip)
        return bundle.preprocessing(samples)

    def _outputs(self, stages: nn.ModuleList, inputs: Inputs, speed: Speed) -> Tensor:
        with torch.inference_mode(), speed.autocast(inputs.device):
            return _forward(stages, speed.laid_out(inputs))

    def _stored(self, outputs: Tensor) -> np.ndarray:
        if self.stages.are_all or outputs.dtype != torch.bfloat16:
            outputs = outputs.float()
        if outputs.ndim == 4:
            outputs = outputs.permute(0, 2, 3, 1)
        outputs = outputs.contiguous().cpu()
        return (outputs.view(torch.uint16) if outputs.dtype == torch.bfloat16 else outputs).numpy()


def _forward(stages: nn.ModuleList, inputs: Any) -> Any:
    for stage in stages:
        inputs = stage(inputs)
    return inputs
