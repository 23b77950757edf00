"""The rate rule: the peak learning rate where the recipe gives none. Its study: docs/studies/learning_rate.md."""

from torch import nn

from headstart.models.network import batch_norms
from headstart.training.section import Training

# Of a random start, and of a source's weights.
_RATES = {"adamw": 3e-3, "sgd": 0.1}
_PRETRAINED_RATES = {"adamw": 2e-3, "sgd": 0.033}
# Of a random start without batch norms, which make a step that is too large harmless.
_UNNORMALISED_RATE = 1e-3
# The inputs of a unit, summed over the layers, of the network that a source's rate was found with.
_INPUTS = 3259


def peak_rate(training: Training, *, pretrained: bool, network: nn.Module | None = None) -> float:
    """The learning rate of the head at its peak.

    AdamW moves every weight by about the rate, so a sum over n of them by n times as much, and a network by the sum of
    what its trained layers do: the rate that suits a source is in inverse proportion to the inputs of a unit, summed
    over these (for one layer µP, Yang et al., "Tensor programs V", 2022; the sum is measured).

    Args:
        pretrained: whether the weights start from a source.
        network: what is trained, where it is known: the parameters that require a gradient count.
    """
    if training.learning_rate is not None:
        return training.learning_rate
    rate = (_PRETRAINED_RATES if pretrained else _RATES)[training.optimizer]
    if network is None or training.optimizer != "adamw":
        return rate
    random = _RATES["adamw"] if batch_norms(network) else _UNNORMALISED_RATE
    if not pretrained:
        return random
    # The head of a source without classes has no weights.
    trained = [each for each in network.parameters() if each.ndim > 1 and each.numel() and each.requires_grad]
    return min(rate * _INPUTS / max(1, sum(each[0].numel() for each in trained)), random)
