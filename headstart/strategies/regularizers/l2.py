"""l2: R(w) = ‖w‖², ridge or weight decay (Krogh and Hertz 1991)."""

from collections.abc import Sequence

from torch import Tensor

from headstart.modalities.batch import Inputs
from headstart.models.network import Network
from headstart.strategies.regularizer import Regularizer
from headstart.training.penalty import Penalty, sum_of_squares, trained_weights


def l2(network: Network, strength: float) -> Penalty:
    def penalty(network: Network, inputs: Inputs, outputs: Sequence[Inputs], start: int) -> Tensor:
        return strength * sum_of_squares(trained_weights(network))

    return penalty


REGULARIZER = Regularizer(l2)
