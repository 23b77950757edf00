"""Learning without labels: what two views of a sample share.

VICReg embeds the features of two variants of each sample with a projector, which is thrown away after training, and
asks for embeddings that agree within a pair and whose dimensions vary and do not repeat each other, so that they
cannot collapse to a point. (SimCLR, which pushes samples apart instead, was better by more than noise in no
setting tried, MNIST-5k to scikit-learn's digits and back in batches of 32 to 256, and worse in some.)
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network, evaluated
from headstart.storage.state import State
from headstart.training.batches import batch_count, epoch_batches
from headstart.training.distributed import current_group, synchronize_batch_norm
from headstart.training.draws import uniforms
from headstart.training.engine import OnEpoch, train, training_device
from headstart.training.feed import training_loader
from headstart.training.loader import Loader
from headstart.training.plan import Plan
from headstart.training.progress import Progress
from headstart.training.speed import Speed, choose_speed
from headstart.training.supervised import Fit, weights_digest

_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0


def vicreg_loss(one: Tensor, two: Tensor) -> Tensor:
    """25 s(Z, Z′) + 25 [v(Z) + v(Z′)] + c(Z) + c(Z′) of the embeddings (N, D) of two views, N ≥ 2; a scalar in float32.

    s is the mean of (z − z′)² over pairs and dimensions, v the mean over the dimensions of max(0, 1 − standard
    deviation), c the sum of the squared covariances between dimensions over D (Bardes, Ponce and LeCun, "VICReg:
    variance-invariance-covariance regularization for self-supervised learning", ICLR 2022, algorithm 1 with its
    coefficients and its 1e-4 within the root).
    """
    one, two = one.float(), two.float()
    loss = _INVARIANCE * F.mse_loss(one, two)
    for embeddings in (one, two):
        centred = embeddings - embeddings.mean(dim=0)
        deviations = (centred.square().sum(dim=0) / (len(centred) - 1) + 1e-4).sqrt()
        covariance = centred.T @ centred / (len(centred) - 1)
        off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + _VARIANCE * F.relu(1 - deviations).mean() + _COVARIANCE * off_diagonal / embeddings.shape[1]
    return loss


def projector(feature_dim: int) -> nn.Module:
    """The network from features (N, feature_dim) to the embeddings (N, 4 feature_dim) that are compared: three layers
    that expand, as covariances need dimensions to spread over (section 4.2 of the paper)."""
    width, layers = 4 * feature_dim, []
    for inputs in (feature_dim, width):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, width, bias=False))


def fit_without_labels(
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    *,
    seed: int,
    name: str = "pretraining",
    state: State | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Trains the stages of `bundle.network` in place by VICReg; the head stays as it is.

    Labels have no part in it, whether or not the data set has them: the same samples give the same weights.

    Raises:
        InputError: the training or the validation split has a single sample or none.
        HeadstartError: the loss is no longer a finite number.
    """
    for split in ("train", "val"):
        if dataset.counts[split] < 2:
            raise InputError(
                f"{dataset.manifest['source']['uri']} gives the {split} split {dataset.counts[split]} samples, and "
                f"vicreg compares samples with each other; add images or raise data.split.{split}."
            )
    device = training_device()
    network = bundle.network.to(device)
    torch.manual_seed(seed)
    views = _Views(bundle, dataset, plan, projector(network.feature_dim).to(device), seed, device)
    group = current_group()
    synchronize_batch_norm(views.module, group)
    group.align(list(views.module.state_dict().values()))
    job = {
        "start": weights_digest(views.module),
        "objective": "vicreg",
        "data": {split: dataset.split_digest(split) for split in ("train", "val")},
        "preprocessing": bundle.preprocessing.to_dict(),
    }
    course, speed = train(
        views,
        plan,
        seed=seed,
        name=name,
        job=job,
        state=state,
        on_epoch=on_epoch,
        progress=progress,
    )
    network.eval()
    return Fit.of(course, speed, samples=views.samples, validation=-course.history[-1]["val/loss"])


class _Learner(nn.Module):
    """The stages and the projector: what is trained. The head is not."""

    def __init__(self, network: Network, projection: nn.Module) -> None:
        super().__init__()
        self.stages, self.projection = network.stages, projection


class _Views:
    """VICReg over the views of each sample; `samples` and positions are those of the training split."""

    # An accuracy would need labels, and would choose the weights by them. The loss on the validation split chooses
    # badly: on MNIST-5k in batches of 32 VICReg's was lowest after 2 of 6 epochs, whose features told scikit-learn's
    # digits apart with an accuracy of 0.880 by a linear probe on 5 labels a class; those of the last did with 0.916.
    metric = None

    def __init__(
        self,
        bundle: ModelBundle,
        dataset: Dataset,
        plan: Plan,
        projection: nn.Module,
        seed: int,
        device: torch.device,
    ) -> None:
        self.bundle, self.network = bundle, bundle.network
        self.module = _Learner(self.network, projection)
        self.plan, self.seed, self.device = plan, seed, device
        self._kind = modality(dataset.modality)
        self._train = training_loader(dataset.samples("train"), plan, seed=seed, device=device)
        self._val = dataset.samples("val")
        self.samples, self.judged = dataset.counts["train"], dataset.counts["val"]

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        batch = epoch_batches(self.samples, self.plan.batch_size, seed=self.seed, epoch=1)[0]
        example = self._inputs(self._train, np.array_split(batch, current_group().size)[0], epoch=1)
        trial = copy.deepcopy(self.network)
        trial.replace_head(1)
        return choose_speed(trial, example, start=0, plan=self.plan, steps=steps, state=state)

    def prepare(self, speed: Speed) -> None:
        self.speed = speed
        speed.prepare(self.network)
        self._activations = speed.activations(self.network)

    def ready(self, pause: Callable[[], None]) -> None:
        """Samples are read as they are stored."""

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        loss = vicreg_loss(*self._whole(self._embeddings(self._train, piece, epoch), batch))
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

    def _inputs(self, loader: Loader, positions: np.ndarray, epoch: int) -> Tensor:
        """(2N, C, H, W): the first views of the samples, then the second ones."""
        samples = loader.read(positions, epoch)
        draws = torch.from_numpy(uniforms(self.seed, epoch, positions, 2 * self._kind.draws_per_sample))
        views = [
            self._kind.augment(samples, draw, method="views", strength=self.plan.strength, flip=self.plan.flip)
            for draw in draws.chunk(2, dim=1)
        ]
        return self.bundle.preprocessing(torch.cat(views))

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        with evaluated(self.module):
            return 0.0, self._validation_loss(pause)

    def _validation_loss(self, pause: Callable[[], None]) -> float:
        """The mean over batches of the same size as in training, of views that are the same in every epoch."""
        group, count = current_group(), self.judged
        batches = np.array_split(np.arange(count), batch_count(count, self.plan.batch_size))[group.rank :: group.size]
        loader = Loader(self._val, self.device, lambda _: batches)
        losses = []
        with torch.inference_mode():
            for positions in batches:
                pairs = self._embeddings(loader, positions, epoch=0)
                losses.append(float(vicreg_loss(pairs[:, 0], pairs[:, 1])) * len(positions))
                pause()
        return float(group.gather(np.array(losses)).sum()) / count
