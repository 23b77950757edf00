"""Training without labels: a loss compares two views of each sample."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.modalities.batch import Inputs, joined
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.training.context import RunContext
from headstart.training.distributed import current_group
from headstart.training.draws import uniforms
from headstart.training.engine import training_device
from headstart.training.loader import Loader
from headstart.training.plan import Plan
from headstart.training.speed import Speed
from headstart.training.trained import Trained
from headstart.training.unlabelled import Unlabelled, pretrain


@dataclass(frozen=True)
class ViewLoss:
    """What is minimised: `loss` of the embeddings (N, D) of two views, N ≥ 2, a scalar in float32.

    `projector` makes, from the number of features, the network from features to embeddings; it is thrown away after
    training. `name` is that of the objective.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    projector: Callable[[int], nn.Module]


def fit_views(bundle: ModelBundle, dataset: Dataset, plan: Plan, context: RunContext, objective: ViewLoss) -> Trained:
    """Train the stages of `bundle.network` in place on two views of each sample; the head stays as it is.

    Raises:
        InputError: the training or the validation split has a single sample or none.
        HeadstartError: the loss is no longer a finite number.
    """
    for split in ("train", "val"):
        if dataset.counts[split] < 2:
            raise InputError(
                f"{dataset.manifest['source']['uri']} gives the {split} split {dataset.counts[split]} samples, and "
                f"{objective.name} compares samples with each other; add samples or raise data.split.{split}."
            )
    return pretrain(
        lambda: _Views(bundle, dataset, plan, context.seed, objective),
        bundle,
        dataset,
        plan,
        context,
        name=objective.name,
    )


class _Learner(nn.Module):
    """The stages and the projector, which are trained; the head is not."""

    def __init__(self, network: Network, projection: nn.Module) -> None:
        super().__init__()
        self.stages, self.projection = network.stages, projection


class _Views(Unlabelled):
    """A loss over the views of each sample."""

    module: _Learner

    def __init__(self, bundle: ModelBundle, dataset: Dataset, plan: Plan, seed: int, objective: ViewLoss) -> None:
        network = bundle.network
        projection = objective.projector(network.feature_dim).to(training_device())
        super().__init__(network, _Learner(network, projection), dataset, plan, seed)
        self.bundle, self._loss = bundle, objective.loss

    def example(self, batch: np.ndarray) -> Inputs:
        return self._inputs(self._train, np.array_split(batch, current_group().size)[0], epoch=1)

    def prepare(self, speed: Speed) -> None:
        super().prepare(speed)
        self._activations = speed.activations(self.network)

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        loss = self._loss(*self._whole(self._embeddings(self._train, piece, epoch), batch))
        return loss, loss.detach() * len(piece)

    def _whole(self, pairs: Tensor, batch: np.ndarray) -> tuple[Tensor, Tensor]:
        """The embeddings (N, D) of both views of the whole batch, those of other processes as constants.

        Every process has the same loss, each differentiates it by its own embeddings, and the gradients, which are
        added up, are together those of one process with all of them.
        """
        group = current_group()
        if group.size > 1:
            others = torch.from_numpy(group.gather(pairs.detach().cpu().numpy())).to(pairs.device)
            before = sum(len(part) for part in np.array_split(batch, group.size)[: group.rank])
            pairs = torch.cat([others[:before], pairs, others[before + len(pairs) :]])
        return pairs[:, 0], pairs[:, 1]

    def _embeddings(self, loader: Loader, positions: np.ndarray, epoch: int) -> Tensor:
        """float32 (N, 2, D) of both views of the samples."""
        inputs = self.speed.laid_out(self._inputs(loader, positions, epoch))
        with self.speed.autocast(self.device):
            embeddings = self.module.projection(self._activations(inputs, 0)[-1])
        return torch.stack(embeddings.float().chunk(2), dim=1)

    def _inputs(self, loader: Loader, positions: np.ndarray, epoch: int) -> Inputs:
        """2N inputs: the first views of the samples, then the second ones."""
        samples = loader.read(positions, epoch)
        draws = torch.from_numpy(uniforms(self.seed, epoch, positions, 2 * self._kind.draws_per_sample))
        views = [
            self._kind.augment(samples, draw, method="views", strength=self.plan.strength, flip=self.plan.flip)
            for draw in draws.chunk(2, dim=1)
        ]
        return self.bundle.preprocessing(joined(views))

    def validated(self, loader: Loader, positions: np.ndarray) -> float:
        pairs = self._embeddings(loader, positions, epoch=0)
        return float(self._loss(pairs[:, 0], pairs[:, 1])) * len(positions)
