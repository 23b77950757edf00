"""From a recipe's training section and the size of the data to numbers: every setting of one training, resolved."""

import math
from dataclasses import dataclass

import numpy as np

from headstart.training.batches import batch_count
from headstart.training.section import Training

# Steps at which a small data set has been seen often enough; between BiT-HyperRule's 500 for under 20 k samples on a
# much larger network (Kolesnikov et al. 2020) and what MNIST-5k needs here to come within 0.5 points of its best.
_STEPS = 400
_MAX_EPOCHS = 60
_MIN_EPOCHS = 4
_VIEWS = 4
# Peak learning rates of a random start, and of a source's weights. Test accuracy of `full`, convnet at 32 px, AdamW,
# mean of two seeds, from MNIST-5k to digits with 5, 20 and 100 labels a class, and from the digits 0-4 of MNIST-5k to
# its 5-9 with as many:
#     the probe    .956 .968 .984   .814 .901 .937
#     3e-4         .971 .974 .987   .860
#     1e-3         .975 .974 .979   .881 .942 .966
#     3e-3         .969 .980 .989   .894 .937 .972
# Where batch norms keep the source's statistics, 2e-3 is better than 1e-3 in 8 of 8 comparisons on the 5-9 (20 and 100
# labels, +.0036 in the mean) and on 512 digits (.9863 instead of .9800, 3 seeds; 3e-3 .9860). Rates that fall by 0.7 a
# stage gained from MNIST to digits (.980 .982 .983) and lost from 0-4 to 5-9 (.866 .937): they are left to `gradual`.
_RATES = {"adamw": 3e-3, "sgd": 0.1}
_PRETRAINED_RATES = {"adamw": 2e-3, "sgd": 0.033}
# AdamW moves every weight by about the rate, so a sum over n of them by n times as much, and a network by the sum of
# what its trained layers do: the rate that suits is in inverse proportion to both (for the width µP, Yang et al.,
# "Tensor programs V", 2022; the layers' part is measured). The rate above was found with convnet's 13 layers, whose
# widest unit has 864 inputs. Unscaled, the first epoch of ResNet-18 (4608 inputs, 21 layers), from a probe with a loss
# of about 0.3, had a mean loss of 141. On 96 digits at 224 px it has .905 at 1e-4, .870 at 1.9e-4, .848 at 2.3e-4 and
# .790 at 3.8e-4 (8 epochs, 2 seeds); this rule gives 2.3e-4. In partial transfer, with half of the layers, it has .875
# at 1e-4, .863 at 1.9e-4 and .873 at 4.5e-4, and convnet .982 at 1e-3, .983 at 2e-3 and .984 at 3e-3.
_FAN_IN = 864
_LAYERS = 13
# Plain gradients are as large as the fitted head makes them: without a bound, SGD diverged in its first epoch at a rate
# of .003 and .033, and with it reached .976 and .983 (convnet, MNIST-5k to digits; Pascanu et al. 2013).
_CLIP = 1.0
# A source's fine-tuning is augmented fully up to so many samples, and then less, at least by that strength: half of it
# instead of the whole gave .959 .964 .996 and .886 .933 .972 above, so less with 50 to 200 samples, but more with 500
# and 1000, where none at all gave .986 and .958. A random start keeps all of it, and so does a source.
_FULLY_AUGMENTED = 250
_LEAST_STRENGTH = 0.5


@dataclass(frozen=True)
class Plan:
    """The settings of one training.

    `batch_size` is what one step of the optimiser sees, over all processes and `accumulate` micro-batches.
    `learning_rate` is the head's peak, reached after `warmup` of all steps; a stage d stages before the head has
    `layer_decay`^d of it (discriminative fine-tuning, Howard and Ruder 2018, section 3.1). `strength` scales the
    augmentation, and `views` is how many variants of a sample frozen stages are run on. `ema` is the decay of an
    average of the weights, None for none. With `unfreeze_every` above 0, training begins with the head and one stage
    more joins it every so many epochs. `clip` bounds the norm of all gradients together, None does not. `precision`,
    `layout` and `compile` are `auto` where they are to be measured.
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

    def frozen(self, stages: int, epoch: int) -> int:
        """How many of `stages` stages, from the input on, gradual unfreezing keeps frozen in `epoch` (from 1)."""
        if not self.unfreeze_every:
            return 0
        return max(0, stages - (epoch - 1) // self.unfreeze_every)

    def to_params(self) -> dict[str, str | int | float | bool | None]:
        """The settings as flat parameters for the record."""
        return dict(self.__dict__)


def make_plan(
    training: Training,
    labels: np.ndarray,
    *,
    pretrained: bool,
    fan_in: int = 0,
    layers: int = 0,
    from_probe: bool = False,
    layer_decay: float | None = None,
    gradual_stages: int = 0,
) -> Plan:
    """Fills in what the recipe left open.

    The batch is a quarter of the samples, a power of two from 8 to 32: fifty samples in batches of 32 are two steps an
    epoch, in which batch-norm's running statistics lag behind the weights until training from scratch seems to stand
    still. Patience is half of the epochs for the same reason: a baseline that was stopped too early would flatter
    every transfer.

    Args:
        training: the recipe's section.
        labels: int (N,), the labels of the training split.
        pretrained: whether the weights start from a source; they then move at a lower rate, and the more samples there
            are, the less these are augmented.
        fan_in: the largest number of inputs that a unit of the pretrained network has, where it is known.
        layers: how many of its weight matrices and kernels are trained, where it is known.
        from_probe: whether training starts from a fitted head, with the statistics of batch norms as they are.
        layer_decay: as in the plan.
        gradual_stages: how many stages are to join the head one by one, 0 where all train from the start.
    """
    samples = len(labels)
    batch_size = training.batch_size or min(max(2 ** int(math.log2(max(samples / 4, 1))), 8), 32)
    epochs = training.epochs
    if epochs is None:
        steps_per_epoch = batch_count(samples, batch_size)
        epochs = min(max(math.ceil(_STEPS / steps_per_epoch), _MIN_EPOCHS), _MAX_EPOCHS)
    learning_rate = training.learning_rate
    if learning_rate is None:
        learning_rate = (_PRETRAINED_RATES if pretrained else _RATES)[training.optimizer]
        if pretrained and training.optimizer == "adamw":
            reach = max(1.0, fan_in / _FAN_IN) * (layers / _LAYERS if layers else 1)
            learning_rate = min(learning_rate / reach, _RATES["adamw"])
    strength = training.augmentation_strength
    if strength is None:
        strength = max(_LEAST_STRENGTH, min(1.0, _FULLY_AUGMENTED / samples)) if pretrained else 1.0
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    skewed = bool(counts.max() > 1.5 * counts.min())
    return Plan(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=training.accumulate,
        optimizer=training.optimizer,
        learning_rate=learning_rate,
        layer_decay=1.0 if layer_decay is None else layer_decay,
        # Half of the epochs are left for the whole network.
        unfreeze_every=max(1, epochs // (2 * gradual_stages)) if gradual_stages else 0,
        clip=_CLIP if from_probe and training.optimizer == "sgd" else None,
        weight_decay=training.weight_decay,
        warmup=training.warmup,
        label_smoothing=training.label_smoothing,
        balance=training.class_weights == "balanced" or (training.class_weights == "auto" and skewed),
        patience=training.patience or max(5, epochs // 2),
        augmentation=training.augmentation,
        strength=strength,
        flip=training.flip,
        views=training.views or min(epochs, _VIEWS),
        ema=training.ema,
        precision=training.precision,
        layout=training.layout,
        compile=training.compile,
    )
