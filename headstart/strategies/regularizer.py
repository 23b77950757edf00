"""The registry of regularisers: the R(w) of Σ L + λ R(w)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import Registry

if TYPE_CHECKING:
    from headstart.models.network import Network
    from headstart.training.penalty import Penalty


@dataclass(frozen=True)
class Regularizer:
    """What keeps a model with many weights and few samples from forgetting or overfitting.

    `penalty` takes the network as it starts, with the source's weights, and λ; it returns the λ R(w) that training
    adds to the loss. Only weights that are trained take part; a frozen weight adds a constant.
    """

    penalty: "Callable[[Network, float], Penalty]"


REGULARIZERS = Registry("regularizers", "headstart.strategies.regularizers", "REGULARIZER", Regularizer)
