"""The plan of a training: every setting resolved, from the recipe's section and the size of the data."""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from headstart.metrics.tally import is_of_classes, is_of_numbers
from headstart.modalities import Modality
from headstart.training.batches import batch_count
from headstart.training.learning_rate import peak_rate
from headstart.training.section import Training

# Steps at which a small data set has been seen often enough; between BiT-HyperRule's 500 for under 20 k samples on a
# much larger network (Kolesnikov et al. 2020) and what MNIST-5k needs here to come within 0.5 points of its best.
_STEPS = 400
_MAX_EPOCHS = 60
# Below so many samples those held out are too few to stop a training by, and it is short.
_FEW = 250
_MIN_EPOCHS = 4
_VIEWS = 4
# Plain gradients are as large as a fitted head makes them (Pascanu et al. 2013): docs/studies/learning_rate.md.
_CLIP = 1.0
# A source's fine-tuning is augmented fully up to so many samples, and then less, at least by that strength:
# docs/studies/augmentation.md.
_FULLY_AUGMENTED = 250
_LEAST_STRENGTH = 0.5


# The settings that a plan takes over as the recipe's section has them.
_TAKEN = (
    "accumulate", "optimizer", "weight_decay", "warmup", "label_smoothing", "augmentation", "flip", "ema", "precision",
    "layout", "compile",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The settings of one training.

    `batch_size` is what one step of the optimiser sees, over all processes and `accumulate` micro-batches.
    `learning_rate` is the head's peak, reached after `warmup` of all steps; a stage d stages before the head has
    `layer_decay`^d of it (discriminative fine-tuning, Howard and Ruder 2018, section 3.1). `strength` scales the
    augmentation, and `views` is how many variants of a sample frozen stages are run on. `ema` is the decay of an
    average of the weights, None for none. With `unfreeze_every` above 0, training begins with the head and one stage
    more joins it every so many epochs. `clip` bounds the norm of all gradients together, None does not. With
    `judges_start`, the start is a model, which training has to beat: both are judged. `stop` is the
    epoch of the schedule after which training ends, None for its last one. `precision`, `layout` and `compile` are
    `auto` where they are to be measured.
    """

    epochs: int
    batch_size: int
    accumulate: int
    optimizer: str
    learning_rate: float
    layer_decay: float
    unfreeze_every: int
    clip: float | None
    weight_decay: float
    warmup: float
    label_smoothing: float
    balance: bool
    patience: int
    augmentation: str
    strength: float
    flip: bool
    views: int
    ema: float | None
    precision: str
    layout: str
    compile: str
    judges_start: bool = False
    stop: int | None = None

    @property
    def last(self) -> int:
        """The last epoch."""
        return self.stop or self.epochs

    def frozen(self, stages: int, epoch: int) -> int:
        """How many of `stages` stages, from the input on, gradual unfreezing keeps frozen in `epoch` (from 1)."""
        if not self.unfreeze_every:
            return 0
        return max(0, stages - (epoch - 1) // self.unfreeze_every)

    def suited_to(self, kind: Modality) -> "Plan":
        """The plan with the augmentation that a modality has by default, where it is `auto`.

        Raises:
            InputError: the augmentation is another modality's.
        """
        if self.augmentation == "auto":
            return replace(self, augmentation=next(iter(kind.augmentations), "none"))
        if self.augmentation != "views":
            kind.require_augmentation(self.augmentation)
        return self

    def to_params(self) -> dict[str, str | int | float | bool | None]:
        """The settings as flat parameters for the record."""
        return dict(self.__dict__)


def make_plan(
    training: Training,
    labels: np.ndarray,
    *,
    pretrained: bool,
    network: nn.Module | None = None,
    from_probe: bool = False,
    layer_decay: float | None = None,
    gradual_stages: int = 0,
) -> Plan:
    """Fill in what the recipe left open.

    The batch is a quarter of the samples, a power of two from 8 to 32: fifty samples in batches of 32 are two steps an
    epoch, in which batch-norm's running statistics lag behind the weights until training from scratch seems to stand
    still. Patience is half of the epochs for the same reason, and below 250 samples all of them: a baseline that was
    stopped too early would flatter every transfer.

    Args:
        training: the recipe's section.
        labels: (N,), the labels of the training split, int or of a regression float; several of each (N, K).
        pretrained: whether the weights start from a source; they then move at a lower rate, and the more samples there
            are, the less these are augmented.
        network: what is trained, where it is known: its size and its norms bound the rate.
        from_probe: whether training starts from a fitted head, with the statistics of batch norms as they are.
        layer_decay: as in the plan.
        gradual_stages: how many stages are to join the head one by one, 0 where all train from the start.
    """
    samples = len(labels)
    batch_size = training.batch_size or min(max(2 ** int(math.log2(max(samples / 4, 1))), 8), 32)
    epochs = training.epochs
    if epochs is None:
        epochs = min(max(math.ceil(_STEPS / batch_count(samples, batch_size)), _MIN_EPOCHS), _MAX_EPOCHS)
    strength = training.augmentation_strength
    if strength is None:
        strength = max(_LEAST_STRENGTH, min(1.0, _FULLY_AUGMENTED / samples)) if pretrained else 1.0
    taken = {key: getattr(training, key) for key in _TAKEN}
    if is_of_numbers(labels) and training.augmentation == "auto":
        # Nobody knows whether a number stays the same where a sample is zoomed, turned or made brighter, and a shift of
        # the features that no class would mind is an error of every number.
        taken["augmentation"] = "none"
    return Plan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=peak_rate(training, pretrained=pretrained, network=network),
        layer_decay=1.0 if layer_decay is None else layer_decay,
        # Half of the epochs are left for the whole network.
        unfreeze_every=max(1, epochs // (2 * gradual_stages)) if gradual_stages else 0,
        clip=_CLIP if from_probe and training.optimizer == "sgd" else None,
        balance=training.class_weights == "balanced" or (training.class_weights == "auto" and _is_skewed(labels)),
        patience=training.patience or (epochs if samples < _FEW else max(5, epochs // 2)),
        strength=strength,
        views=training.views or min(epochs, _VIEWS),
        **taken,
    )


def _is_skewed(labels: np.ndarray) -> bool:
    if not is_of_classes(labels):
        return False
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return bool(counts.max() > 1.5 * counts.min())
