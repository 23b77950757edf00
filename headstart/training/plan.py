"""From a recipe's training section and the size of the data to numbers: every setting of one training, resolved."""

import math
from dataclasses import dataclass

import numpy as np

from headstart.config import Training
from headstart.training.batches import batch_count

# Steps at which a small data set has been seen often enough; between BiT-HyperRule's 500 for under 20 k samples on a
# much larger network (Kolesnikov et al. 2020) and what MNIST-5k needs here to come within 0.5 points of its best.
_STEPS = 400
_MAX_EPOCHS = 60
_MIN_EPOCHS = 4


@dataclass(frozen=True)
class Plan:
    """The settings of one training. `learning_rate` is the peak, reached after `warmup` of all steps."""

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    warmup: float
    label_smoothing: float
    balance: bool
    patience: int
    augmentation: str
    flip: bool

    def to_params(self) -> dict[str, str | int | float | bool]:
        """The settings as flat parameters for the record."""
        return dict(self.__dict__)


def make_plan(training: Training, labels: np.ndarray, *, pretrained: bool) -> Plan:
    """Fills in what the recipe left open.

    The batch is a quarter of the samples, a power of two from 8 to 32: fifty samples in batches of 32 are two steps an
    epoch, in which batch-norm's running statistics lag behind the weights until training from scratch seems to stand
    still. Patience is half of the epochs for the same reason: a baseline that was stopped too early would flatter
    every transfer.

    Args:
        training: the recipe's section.
        labels: int (N,), the labels of the training split.
        pretrained: whether the weights start from a source; they then move at a third of the rate.
    """
    samples = len(labels)
    batch_size = training.batch_size or min(max(2 ** int(math.log2(max(samples / 4, 1))), 8), 32)
    epochs = training.epochs
    if epochs is None:
        steps_per_epoch = batch_count(samples, batch_size)
        epochs = min(max(math.ceil(_STEPS / steps_per_epoch), _MIN_EPOCHS), _MAX_EPOCHS)
    learning_rate = training.learning_rate
    if learning_rate is None:
        learning_rate = {"adamw": 3e-3, "sgd": 0.1}[training.optimizer] / (3 if pretrained else 1)
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    skewed = bool(counts.max() > 1.5 * counts.min())
    return Plan(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=training.optimizer,
        learning_rate=learning_rate,
        weight_decay=training.weight_decay,
        warmup=training.warmup,
        label_smoothing=training.label_smoothing,
        balance=training.class_weights == "balanced" or (training.class_weights == "auto" and skewed),
        patience=training.patience or max(5, epochs // 2),
        augmentation=training.augmentation,
        flip=training.flip,
    )
