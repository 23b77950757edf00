"""Supervised training, the same for pretraining, fine-tuning and training from scratch.

It minimises the mean over the batch of L(y, f(x; w)) plus λ R(w), with L the cross-entropy. The mean stands for the
sum of the objective in the documentation: its λ is this one times the number of samples.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.dataset import Dataset, Split
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import score
from headstart.models.bundle import ModelBundle
from headstart.models.network import evaluated
from headstart.storage.state import State
from headstart.training.batches import epoch_batches
from headstart.training.distributed import current_group, synchronize_batch_norm
from headstart.training.engine import Course, OnEpoch, train, training_device
from headstart.training.feed import Feed, SampleFeed
from headstart.training.penalty import Penalty
from headstart.training.plan import Plan
from headstart.training.progress import Progress
from headstart.training.speed import Speed, choose_speed


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    `history` has one mapping an epoch: epoch, train/loss, val/loss, val/<metric>. `validation` is the metric on the
    validation split, without labels the negated loss there, with the weights that were kept, those of `best_epoch`;
    epoch 0 is the start. `temperature` is the one that calibrates these weights on that split. `seconds` and
    `samples_per_second` count what was done before an interruption too. `settings` says how it was computed: precision,
    layout, compiled or not, processes.
    """

    history: list[dict[str, float]]
    best_epoch: int
    validation: float
    temperature: float
    seconds: float
    samples_per_second: float
    settings: dict[str, Any]

    @classmethod
    def of(cls, course: Course, speed: Speed, *, samples: int, validation: float, temperature: float = 1.0) -> "Fit":
        """What `engine.train` came to over `samples` training samples."""
        return cls(
            history=course.history,
            best_epoch=course.kept_epoch,
            validation=validation,
            temperature=temperature,
            seconds=course.seconds,
            samples_per_second=len(course.history) * samples / course.training_seconds,
            settings={**speed.to_params(), "processes": current_group().size},
        )


def fit(
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    *,
    metric: str,
    seed: int,
    penalty: Penalty | None = None,
    feed: Feed | None = None,
    name: str = "training",
    state: State | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Trains `bundle.network` in place on the training split and leaves it with its best weights, calibrated.

    Which epoch is the best, and how a training goes on after an interruption, is said at `engine.train`.
    Only parameters that require a gradient change; frozen stages stay as they are, batch-norm statistics included.

    Args:
        feed: what the first stage that trains reads; the augmented samples themselves by default.
        name: the strategy and its regulariser, say: it tells trainings apart that only differ in their `penalty`.
        state: where checkpoints are kept; by default where the environment says.

    Raises:
        HeadstartError: the loss is no longer a finite number.
    """
    device = training_device()
    network = bundle.network.to(device)
    group = current_group()
    synchronize_batch_norm(network, group)
    group.align(list(network.state_dict().values()))
    feed = feed or SampleFeed(dataset, bundle.preprocessing, plan, seed=seed, device=device)
    objective = _Supervised(bundle, dataset, plan, metric, seed, penalty, feed, device)
    job = {
        "start": weights_digest(network),
        "trained": [key for key, parameter in network.named_parameters() if parameter.requires_grad],
        "stage": feed.stage,
        "keeps_statistics": network.keeps_statistics,
        "data": {split: dataset.split_digest(split) for split in ("train", "val")},
        "preprocessing": bundle.preprocessing.to_dict(),
        "metric": metric,
    }
    course, speed = train(
        objective,
        plan,
        seed=seed,
        name=name,
        job=job,
        state=state,
        on_epoch=on_epoch,
        progress=progress,
    )
    network.eval()
    logits = objective.validation_logits(replace(speed, precision="fp32"), lambda: None)
    labels = objective.val.labels
    bundle.temperature = fit_temperature(logits, labels)
    validation = score(metric, labels, logits.argmax(1), len(dataset.classes))
    return Fit.of(course, speed, samples=objective.samples, validation=validation, temperature=bundle.temperature)


def weights_digest(module: nn.Module) -> str:
    """sha256:<hex> over the names, types, shapes and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


class _Supervised:
    """Cross-entropy on labels, judged by a metric on the validation split."""

    def __init__(
        self,
        bundle: ModelBundle,
        dataset: Dataset,
        plan: Plan,
        metric: str,
        seed: int,
        penalty: Penalty | None,
        feed: Feed,
        device: torch.device,
    ) -> None:
        self.network = self.module = bundle.network
        self.metric, self.penalty, self.feed, self.device = metric, penalty, feed, device
        self.plan, self.seed = plan, seed
        self.train, self.val = dataset.split("train"), dataset.split("val")
        self.samples, self.judged, self.classes = len(self.train.labels), len(self.val.labels), len(dataset.classes)
        self._weights = _class_weights(self.train, self.classes, device) if plan.balance else None

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        batch = epoch_batches(self.samples, self.plan.batch_size, seed=self.seed, epoch=1)[0]
        rows = -(-len(batch) // (current_group().size * self.plan.accumulate))
        # How long a step takes does not depend on what it reads, which may not be there yet.
        example = torch.rand(rows, *self.feed.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return choose_speed(self.network, example, start=self.feed.stage, plan=self.plan, steps=steps, state=state)

    def prepare(self, speed: Speed) -> None:
        self.speed = speed
        speed.prepare(self.network)
        self._activations = speed.activations(self.network)

    def ready(self, pause: Callable[[], None]) -> None:
        self.feed.ready(pause)

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        inputs = self.speed.laid_out(self.feed.batch(piece, epoch))
        labels = self._labels(piece)
        with self.speed.autocast(self.device):
            outputs = self._activations(inputs, self.feed.stage)
            logits = self.network.classify(outputs[-1])
        smoothing = self.plan.label_smoothing
        total = F.cross_entropy(logits.float(), labels, self._weights, reduction="sum", label_smoothing=smoothing)
        # A piece's share of the batch's mean, whose weights are those of all of its samples.
        weight = len(batch) if self._weights is None else self._weights[self._labels(batch)].sum()
        objective = total / weight
        added = objective.detach() * len(batch)
        if self.penalty is not None:
            share = len(piece) / len(batch)
            objective = objective + share * self.penalty(self.network, inputs, outputs, self.feed.stage)
        return objective, added

    def _labels(self, chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(self.train.labels[chosen]).to(self.device)

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        logits = self.validation_logits(self.speed, pause)
        loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(self.val.labels)))
        return score(self.metric, self.val.labels, logits.argmax(1), self.classes), loss

    def validation_logits(self, speed: Speed, pause: Callable[[], None]) -> np.ndarray:
        """float32 (N, classes); the processes share the samples, none of which is seen twice."""
        group, count = current_group(), len(self.val.labels)
        part = slice(group.rank * count // group.size, (group.rank + 1) * count // group.size)
        logits = np.empty((part.stop - part.start, self.classes), dtype=np.float32)
        done = 0
        with evaluated(self.network), torch.inference_mode(), speed.autocast(self.device):
            for inputs in self.feed.validation(part):
                features = self.network.activations(speed.laid_out(inputs), self.feed.stage)[-1]
                logits[done : done + len(inputs)] = self.network.classify(features).float().cpu().numpy()
                done += len(inputs)
                pause()
        return group.gather(logits)


def _class_weights(train: Split, classes: int, device: torch.device) -> Tensor:
    """Inverse class frequencies, scaled so that their mean over the samples is 1."""
    counts = np.bincount(train.labels, minlength=classes).clip(min=1)
    weights = len(train.labels) / (classes * counts)
    return torch.tensor(weights, dtype=torch.float32, device=device)
