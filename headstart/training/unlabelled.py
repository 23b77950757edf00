"""What trainings without labels have in common: they read stored samples, and the validation split only reports."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Dataset
from headstart.modalities.batch import Inputs
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network, evaluated
from headstart.storage.state import State
from headstart.training.batches import batch_count, epoch_batches
from headstart.training.context import RunContext
from headstart.training.distributed import current_group
from headstart.training.engine import training_device
from headstart.training.feed import training_loader
from headstart.training.loader import Loader
from headstart.training.plan import Plan
from headstart.training.speed import Speed, choose_speed
from headstart.training.supervised import minimise, trained_by
from headstart.training.trained import Trained


class Unlabelled(ABC):
    """An objective of the engine that reads no labels; `samples` and positions are those of the training split.

    `module` is what is trained: the network's stages, and what is thrown away after training. It is on the device.
    """

    # An accuracy would need labels, and would choose the weights by them. The loss on the validation split chooses
    # badly: docs/studies/self_supervised.md.
    metric = None

    def __init__(self, network: Network, module: nn.Module, dataset: Dataset, plan: Plan, seed: int) -> None:
        self.network, self.module, self.device = network, module, training_device()
        self.plan, self.seed, self._kind = plan, seed, dataset.kind
        self._train = training_loader(dataset, plan, seed=seed, device=self.device)
        self.blocks, self._val = self._train.blocks, dataset.samples("val")
        self.samples, self.judged = dataset.counts["train"], dataset.counts["val"]

    @abstractmethod
    def example(self, batch: np.ndarray) -> Inputs:
        """What a process reads in a step over the samples at positions `batch`, int (N,): by this its speed is chosen,
        so other values will do."""

    @abstractmethod
    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """As `Objective` says."""

    @abstractmethod
    def validated(self, loader: Loader, positions: np.ndarray) -> float:
        """The sum of the losses of the validation samples at positions int (n,), of which every epoch sees the same."""

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        batch = epoch_batches(self.samples, self.plan.batch_size, seed=self.seed, epoch=1, blocks=self.blocks)[0]
        trial = copy.deepcopy(self.network)
        trial.replace_head(1)
        return choose_speed(trial, self.example(batch), start=0, plan=self.plan, steps=steps, state=state)

    def prepare(self, speed: Speed) -> None:
        self.speed = speed
        speed.prepare(self.network)

    def ready(self, pause: Callable[[], None]) -> None:  # noqa: B027 (nothing is to be prepared)
        """Samples are read as they are stored."""

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        """The mean loss over batches of the same size as in training."""
        group, count = current_group(), self.judged
        batches = np.array_split(np.arange(count), batch_count(count, self.plan.batch_size))[group.rank :: group.size]
        loader = Loader(self._val, self._kind, self.device, lambda _: batches)
        losses = []
        with evaluated(self.module), torch.inference_mode():
            for positions in batches:
                losses.append(self.validated(loader, positions))
                pause()
        return 0.0, float(group.gather(np.array(losses)).sum()) / count


def pretrain(
    make: Callable[[], Unlabelled], bundle: ModelBundle, dataset: Dataset, plan: Plan, context: RunContext, *, name: str
) -> Trained:
    """Train the stages of `bundle.network` in place by the objective called `name`, which `make` gives once the seed is
    set; the head stays as it is. HeadstartError if the loss is no longer a finite number."""
    bundle.network.to(training_device())
    torch.manual_seed(context.seed)
    objective = make()
    course, speed = minimise(objective, bundle, dataset, plan, context, name="pretraining", job={"objective": name})
    validation = -course.history[-1]["val/loss"]
    return trained_by(bundle, plan, course, speed, samples=objective.samples, validation=validation)
