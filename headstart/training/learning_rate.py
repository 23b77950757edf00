"""The rate rule: the peak learning rate where the recipe gives none. Its study: docs/studies/learning_rate.md."""

from headstart.training.section import Training

# Of a random start, and of a source's weights.
_RATES = {"adamw": 3e-3, "sgd": 0.1}
_PRETRAINED_RATES = {"adamw": 2e-3, "sgd": 0.033}
# The network that these were found with: the inputs of its widest unit, and its layers.
_FAN_IN = 864
_LAYERS = 13


def peak_rate(training: Training, *, pretrained: bool, fan_in: int = 0, layers: int = 0) -> float:
    """The learning rate of the head at its peak.

    AdamW moves every weight by about the rate, so a sum over n of them by n times as much, and a network by the sum of
    what its trained layers do: the rate that suits a source is in inverse proportion to both (for the width µP, Yang et
    al., "Tensor programs V", 2022; the layers' part is measured).

    Args:
        pretrained: whether the weights start from a source.
        fan_in: the largest number of inputs that a unit of the network has, 0 where it is not known.
        layers: how many of its weight matrices and kernels are trained, 0 where it is not known.
    """
    if training.learning_rate is not None:
        return training.learning_rate
    rate = (_PRETRAINED_RATES if pretrained else _RATES)[training.optimizer]
    if pretrained and training.optimizer == "adamw":
        reach = max(1.0, fan_in / _FAN_IN) * (layers / _LAYERS if layers else 1)
        rate = min(rate / reach, _RATES["adamw"])
    return rate
