"""The training loop, the same for pretraining, fine-tuning and training from scratch.

It minimises the mean over the batch of L(y, f(x; w)) plus λ R(w), with L the cross-entropy. The mean stands for the
sum of the objective in the documentation: its λ is this one times the number of samples.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from headstart.data.dataset import Dataset, Split
from headstart.errors import HeadstartError
from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.metrics import score
from headstart.models.bundle import ModelBundle
from headstart.training.batches import batch_count, training_batches
from headstart.training.plan import Plan
from headstart.training.progress import Progress

Penalty = Callable[[nn.Module], torch.Tensor]
OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    `history` has one mapping an epoch: epoch, train/loss, val/loss, val/<metric>. `validation` is the metric on the
    validation split with the weights that were kept, those of `best_epoch`; epoch 0 is the start. `temperature` is the
    one that calibrates these weights on that split.
    """

    history: list[dict[str, float]]
    best_epoch: int
    validation: float
    temperature: float
    seconds: float
    samples_per_second: float


def fit(
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    *,
    metric: str,
    seed: int,
    penalty: Penalty | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    label: str = "training",
) -> Fit:
    """Trains `bundle.network` in place on the training split and leaves it with its best weights, calibrated.

    The best epoch is the one with the highest `metric` on the validation split, the lower validation loss deciding
    between equals. The start is kept where no epoch is better, so that training cannot make a good one worse. Training
    ends early after `plan.patience` epochs without a better epoch. Only parameters that require a gradient change;
    frozen stages stay as they are, batch-norm statistics included.

    Raises:
        HeadstartError: the loss is no longer a finite number.
    """
    network = bundle.network.to(training_device())
    train, val = dataset.split("train"), dataset.split("val")
    torch.manual_seed(seed)
    criterion = nn.CrossEntropyLoss(
        weight=_class_weights(train, len(dataset.classes)) if plan.balance else None,
        label_smoothing=plan.label_smoothing,
    )
    optimizer = _optimizer(network, plan)
    steps_per_epoch = batch_count(len(train.labels), plan.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(plan.epochs * steps_per_epoch, plan.warmup))

    def validate() -> tuple[float, float]:
        logits = bundle.predict_logits(val.samples)
        loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(val.labels)))
        return score(metric, val.labels, logits.argmax(1), len(dataset.classes)), loss

    history: list[dict[str, float]] = []
    start = time.perf_counter()
    training_seconds = 0.0
    start_validation, start_loss = validate()
    if on_epoch:
        # The curve begins at the start, which may stay the best.
        on_epoch(0, {"val/loss": start_loss, f"val/{metric}": start_validation})
    start_state = copy.deepcopy(network.state_dict())
    best_validation, best_loss, best_epoch, best_state = -np.inf, np.inf, 0, start_state
    for epoch in range(1, plan.epochs + 1):
        epoch_start = time.perf_counter()
        batches = training_batches(
            train,
            modality_name=dataset.modality,
            batch_size=plan.batch_size,
            augmentation=plan.augmentation,
            flip=plan.flip,
            seed=seed,
            epoch=epoch,
        )
        train_loss = _train_epoch(bundle, batches, criterion, penalty, optimizer, schedule) / len(train.labels)
        training_seconds += time.perf_counter() - epoch_start
        validation, val_loss = validate()
        # The training loss is taken before each step, so only the validation loss shows what the last step did.
        if not np.isfinite(train_loss + val_loss):
            raise HeadstartError(
                f"{label}: the loss became {train_loss + val_loss} in epoch {epoch}; lower learning_rate (it was "
                f"{plan.learning_rate:g}) or the regularizer's strength."
            )
        record = {"epoch": epoch, "train/loss": train_loss, "val/loss": val_loss, f"val/{metric}": validation}
        history.append(record)
        if on_epoch:
            on_epoch(epoch, {key: value for key, value in record.items() if key != "epoch"})
        if (validation, -val_loss) > (best_validation, -best_loss):
            best_validation, best_loss = validation, val_loss
            best_epoch, best_state = epoch, copy.deepcopy(network.state_dict())
        if progress:
            finished = epoch == plan.epochs or epoch - best_epoch >= plan.patience
            done = plan.epochs if finished else epoch
            progress(label, done, plan.epochs, f"loss {train_loss:.3f}, validation {metric} {validation:.3f}")
        if epoch - best_epoch >= plan.patience:
            break
    if (start_validation, -start_loss) > (best_validation, -best_loss):
        best_validation, best_epoch, best_state = start_validation, 0, start_state
    network.load_state_dict(best_state)
    network.eval()
    bundle.temperature = fit_temperature(bundle.predict_logits(val.samples), val.labels)
    return Fit(
        history=history,
        best_epoch=best_epoch,
        validation=best_validation,
        temperature=bundle.temperature,
        seconds=time.perf_counter() - start,
        samples_per_second=len(history) * len(train.labels) / training_seconds,
    )


def training_device() -> torch.device:
    """The GPU where there is one, the CPU elsewhere."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the peak learning rate: linear from 0 over the first `warmup` share of `steps`, then half a cosine
    down to 0 (Loshchilov and Hutter 2017)."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, steps - rise)))

    return factor


def _train_epoch(
    bundle: ModelBundle,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    criterion: nn.Module,
    penalty: Penalty | None,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """One pass over the batches; the sum of the samples' losses, without the penalty."""
    network, device = bundle.network, training_device()
    network.train()
    total = torch.zeros((), device=device)
    for samples, labels in batches:
        inputs = bundle.preprocessing(samples.to(device, non_blocking=True))
        loss = criterion(network(inputs).float(), labels.to(device, non_blocking=True))
        objective = loss if penalty is None else loss + penalty(network)
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        optimizer.step()
        schedule.step()
        total += loss.detach() * len(labels)
    return float(total)


def _optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    # Decay pulls weights towards 0; on biases and normalisation scales (one axis) that only shifts activations.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


def _class_weights(train: Split, classes: int) -> torch.Tensor:
    """Inverse class frequencies, scaled so that their mean over the samples is 1."""
    counts = np.bincount(train.labels, minlength=classes).clip(min=1)
    weights = len(train.labels) / (classes * counts)
    return torch.tensor(weights, dtype=torch.float32, device=training_device())
