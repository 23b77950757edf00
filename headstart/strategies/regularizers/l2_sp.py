"""l2_sp: R(w) = ‖w_S − w_source‖² + ‖w_N‖².

w_S are the transferred weights, the stages, and w_N the new ones, the head. L2-SP: Li, Grandvalet and Davoine,
"Explicit inductive bias for transfer learning with convolutional networks", ICML 2018, with
both of its strengths equal.
"""

from collections.abc import Sequence

from torch import Tensor

from headstart.modalities.batch import Inputs
from headstart.models.network import Network
from headstart.strategies.regularizer import Regularizer
from headstart.training.penalty import Penalty, sum_of_squares, trained_weights


def l2_sp(network: Network, strength: float) -> Penalty:
    source = {name: parameter.detach().clone() for name, parameter in network.stages.named_parameters()}

    def penalty(network: Network, inputs: Inputs, outputs: Sequence[Inputs], start: int) -> Tensor:
        trained = {name: p for name, p in network.stages.named_parameters() if p.requires_grad}
        moved = sum_of_squares(list(trained.values()), [source[name] for name in trained])
        return strength * (moved + sum_of_squares(trained_weights(network.head)))

    return penalty


REGULARIZER = Regularizer(l2_sp)
