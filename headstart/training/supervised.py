"""Supervised training, the same for pretraining, fine-tuning and training from scratch.

It minimises the mean over the batch of L(y, f(x; w)) plus λ R(w), with L the task's loss
(headstart/training/losses.py). The mean stands for the sum of the objective in the documentation: its λ is this one
times the number of samples.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.blocks import blocks_of
from headstart.data.dataset import Dataset, Split
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import score
from headstart.metrics.task import REGRESSION, SINGLE_LABEL
from headstart.models.bundle import ModelBundle
from headstart.models.network import evaluated, follow_batches
from headstart.storage.state import State
from headstart.training.batches import epoch_batches
from headstart.training.context import RunContext
from headstart.training.distributed import current_group, synchronize_batch_norm
from headstart.training.engine import Course, Objective, copied, train, training_device
from headstart.training.feed import Feed, SampleFeed
from headstart.training.losses import held_out_loss, losses
from headstart.training.penalty import Penalty
from headstart.training.plan import Plan
from headstart.training.speed import Speed, choose_speed
from headstart.training.trained import Judged, Trained, calibrated


def fit(
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    context: RunContext,
    *,
    penalty: Penalty | None = None,
    feed: Feed | None = None,
    name: str = "training",
) -> Trained:
    """Train `bundle.network` in place on the training split and leave it with its best weights, calibrated.

    Which epoch is the best, and how a training goes on after an interruption, is said at `engine.train`; with
    `plan.judges_start`, the result tells what the start predicts for the validation split, too. Without validation
    samples the last epoch stays, not calibrated, and its validation metric is NaN.
    Only parameters that require a gradient change; frozen stages stay as they are, batch-norm statistics included.

    Args:
        feed: what the first stage that trains reads; the augmented samples themselves by default.
        name: the strategy and its regulariser, say: it tells trainings apart that only differ in their `penalty`.

    Raises:
        HeadstartError: the loss is no longer a finite number.
    """
    device = training_device()
    network, plan = bundle.network.to(device), plan.suited_to(dataset.kind)
    feed = feed or SampleFeed(dataset, bundle.preprocessing, plan, seed=context.seed, device=device)
    objective = _Supervised(bundle, dataset, plan, context, penalty, feed)
    job = {
        "trained": [key for key, parameter in network.named_parameters() if parameter.requires_grad],
        "stage": feed.stage,
        "keeps_statistics": network.keeps_statistics,
        "metric": context.metric,
    }
    start = copied(network) if plan.judges_start and objective.judged else None
    course, speed = minimise(objective, bundle, dataset, plan, context, name=name, job=job)
    if not objective.judged:
        return trained_by(bundle, plan, course, speed, samples=objective.samples, validation=math.nan)
    at_start = None
    if start is not None:
        kept = copied(network)
        network.load_state_dict(start)
        at_start = Judged(_judged(bundle, objective, speed), bundle.calibration)
        network.load_state_dict(kept)
    held_out = _judged(bundle, objective, speed)
    validation = held_out.score(context.metric)
    trained = trained_by(bundle, plan, course, speed, samples=objective.samples, validation=validation)
    return replace(trained, held_out=held_out, start=at_start)


def minimise(
    objective: Objective,
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    context: RunContext,
    *,
    name: str,
    job: Mapping[str, Any],
) -> tuple[Course, Speed]:
    """Train `objective.module`, in every process from the same weights.

    `job` tells trainings apart that start from the same weights with the same data, plan and seed.
    """
    group = current_group()
    follow_batches(objective.module)
    synchronize_batch_norm(objective.module, group)
    group.align(list(objective.module.state_dict().values()))
    content = {
        "start": weights_digest(objective.module),
        "data": {split: dataset.split_digest(split) for split in ("train", "val")},
        # Samples that are streamed come in another order.
        "blocks": dataset.blocks_digest,
        "preprocessing": bundle.preprocessing.to_dict(),
        **job,
    }
    course, speed = train(objective, plan, context, name=name, job=content)
    bundle.network.eval()
    return course, speed


def trained_by(
    bundle: ModelBundle, plan: Plan, course: Course, speed: Speed, *, samples: int, validation: float
) -> Trained:
    """The result of a training by `engine.train` over `samples` training samples; the bundle's provenance tells it too.

    The settings say how it was computed: precision, layout, compiled or not, processes.
    """
    bundle.provenance |= {"history": course.history, "kept_epoch": course.kept_epoch}
    settings = {**speed.to_params(), "processes": current_group().size}
    return Trained(
        bundle,
        validation,
        course.seconds,
        {**plan.to_params(), **settings, "temperature": bundle.temperature},
        history=course.history,
        best_epoch=course.kept_epoch,
        samples_per_second=len(course.history) * samples / course.training_seconds,
    )


def weights_digest(module: nn.Module) -> str:
    """sha256:<hex> over the names, types, shapes and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _judged(bundle: ModelBundle, objective: "_Supervised", speed: Speed) -> Predictions:
    """What the bundle, which is calibrated by them, predicts for the validation samples."""
    logits, val = objective.exact_logits(speed), objective.val
    bundle.calibrate(logits, val.labels, val.groups)
    return calibrated(val.ids, val.labels, logits, bundle, val.groups)


class _Supervised:
    """The task's loss on labels, judged by a metric on the validation split."""

    def __init__(
        self,
        bundle: ModelBundle,
        dataset: Dataset,
        plan: Plan,
        context: RunContext,
        penalty: Penalty | None,
        feed: Feed,
    ) -> None:
        self.network = self.module = bundle.network
        self.kind, self.classifies, self.numbers = bundle.kind, bundle.task == SINGLE_LABEL, bundle.task == REGRESSION
        self.metric, self.penalty, self.feed, self.device = context.metric, penalty, feed, training_device()
        self.plan, self.seed = plan, context.seed
        self.train, self.val = dataset.split("train"), dataset.split("val")
        self.samples, self.judged, self.classes = len(self.train.labels), len(self.val.labels), len(dataset.classes)
        self.blocks = blocks_of(self.train.samples)
        self._weights = (
            _class_weights(self.train, self.classes, self.device) if plan.balance and self.classifies else None
        )

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        batch = epoch_batches(self.samples, self.plan.batch_size, seed=self.seed, epoch=1)[0]
        rows = -(-len(batch) // (current_group().size * self.plan.accumulate))
        # How long a step takes does not depend on what it reads, which may not be there yet.
        return choose_speed(
            self.network, self.feed.example(rows), start=self.feed.stage, plan=self.plan, steps=steps, state=state
        )

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
        if self.classifies:
            total = F.cross_entropy(logits.float(), labels, self._weights, reduction="sum", label_smoothing=smoothing)
        else:
            total = losses(logits.float(), labels, self.network).sum()
        # A piece's share of the batch's mean, whose weights are those of all of its samples.
        weight = len(batch) if self._weights is None else self._weights[self._labels(batch)].sum()
        objective = total / weight
        added = objective.detach() * len(batch)
        if self.penalty is not None:
            share = len(piece) / len(batch)
            objective = objective + share * self.penalty(self.network, inputs, outputs, self.feed.stage)
        return objective, added

    def _labels(self, chosen: np.ndarray) -> Tensor:
        labels = self.train.labels[chosen]
        return torch.from_numpy(labels.astype(np.float32) if self.numbers else labels).to(self.device)

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        logits = self.validation_logits(self.speed, pause)
        loss = held_out_loss(logits, self.val.labels, self.network)
        return score(self.metric, self.val.labels, self.kind.predicted(logits), self.classes), loss

    def exact_logits(self, speed: Speed) -> np.ndarray:
        """The validation logits, float32 (N, classes), computed in float32."""
        return self.validation_logits(replace(speed, precision="fp32"), lambda: None)

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
