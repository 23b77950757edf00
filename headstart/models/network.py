"""A network as transfer learning sees it: stages from input to output, then a head."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.errors import InputError


class Network(nn.Module):
    """Stages that turn an image into a feature vector, and a linear head that turns the vector into logits.

    `forward(x)` is `head(dropout(features(x)))` and `features(x)` is the composition of `stages`, for every
    architecture: freezing, layer-wise learning rates and probes are written against this, not against layer names.
    The last stage ends with the pooling; dropout acts in training only, so a probe of features predicts as the
    network does.
    """

    def __init__(self, stages: Iterable[nn.Module], head: nn.Linear, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.head = head
        self._frozen: frozenset[int] = frozenset()
        self._keeps_statistics = False

    @property
    def feature_dim(self) -> int:
        """Length of a feature vector."""
        return self.head.in_features

    @property
    def frozen_stages(self) -> int:
        """The number of stages, from the input on, that do not train."""
        return next((p for p in range(len(self.stages)) if p not in self._frozen), len(self.stages))

    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) → feature vectors (N, feature_dim)."""
        for stage in self.stages:
            x = stage(x)
        return x

    def activations(self, x: Tensor, start: int = 0) -> list[Tensor]:
        """The outputs of the stages from `start` on, the last of them the feature vectors (N, feature_dim).

        `x` is what stage `start` reads: images for 0, the output of stage `start` - 1 otherwise, and for
        `start` = len(stages) the feature vectors themselves, which are then the only entry.
        """
        outputs = [] if start < len(self.stages) else [x]
        for position in range(start, len(self.stages)):
            x = self.stages[position](x)
            outputs.append(x)
        return outputs

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors (N, feature_dim) → logits (N, classes)."""
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) → logits (N, classes)."""
        return self.classify(self.features(x))

    def replace_head(self, classes: int, generator: torch.Generator | None = None) -> None:
        """Puts a fresh head in place, as `linear_head` makes it."""
        head = linear_head(self.feature_dim, classes, generator)
        self.head = head.to(self.head.weight.device, self.head.weight.dtype)

    def freeze(self, stages: int) -> None:
        """Stops the first `stages` stages from training and lets all others train.

        0 frees everything; `len(self.stages)` leaves only the head to train. InputError outside of that range.
        """
        if not 0 <= stages <= len(self.stages):
            raise InputError(
                f"cannot freeze {stages} stages of a network that has {len(self.stages)}; "
                f"choose 0 to {len(self.stages)}"
            )
        self.train_only(range(stages, len(self.stages)))

    def train_only(self, stages: range) -> None:
        """Lets the stages at these positions train, and the head, and stops all others.

        A frozen stage has no gradients of its own and stays in eval mode also while the network trains, so that its
        batch-norm statistics stay what they were, to the bit.
        """
        self._frozen = frozenset(range(len(self.stages))) - set(stages)
        for position, stage in enumerate(self.stages):
            stage.requires_grad_(position in stages)
        self.train(self.training)

    @property
    def keeps_statistics(self) -> bool:
        """Whether batch norms normalise by fixed statistics: see `keep_statistics`."""
        return self._keeps_statistics

    def unfreeze(self) -> None:
        """Lets every stage train: `freeze(0)`."""
        self.freeze(0)

    def keep_statistics(self, keep: bool) -> None:
        """Whether batch norms of stages that train normalise by the statistics that they have, instead of a batch's.

        Their scales and shifts train nevertheless.
        """
        self._keeps_statistics = keep
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Sets training or eval mode; frozen stages, and batch norms that keep their statistics, stay in eval mode."""
        super().train(mode)
        for position in self._frozen:
            self.stages[position].eval()
        if self._keeps_statistics:
            for module in self.stages.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """A context in which `module` and its parts are in eval mode; afterwards they have the modes that they had."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def linear_head(feature_dim: int, classes: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear head with weights from N(0, 0.01²) and no bias; for 0 classes, one that has no outputs.

    Nearly equal logits at the start keep a new head's first, arbitrary gradients from distorting transferred
    features (Kumar et al. 2022); weights of exactly 0 would pass no gradient to the stages in the first step.
    """
    if classes == 0:
        # Made of one with an output: torch's own initialisation warns of weights that are not there.
        none = nn.Linear(feature_dim, 1)
        none.out_features = 0
        none.weight, none.bias = nn.Parameter(none.weight[:0]), nn.Parameter(none.bias[:0])
        return none
    head = nn.Linear(feature_dim, classes)
    nn.init.normal_(head.weight, std=0.01, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def adapt_channels(network: Network, channels: int) -> None:
    """Makes the first convolution read images of `channels` channels.

    Each new kernel is the sum of the old ones over their channels divided by `channels`, so that an image whose
    channels are all equal (a grey one as RGB, say) gives the response it gave before.
    """
    first = next(module for module in network.stages.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels == channels:
        return
    with torch.no_grad():
        kernels = first.weight.sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
    first.in_channels = channels
    first.weight = nn.Parameter(kernels, requires_grad=first.weight.requires_grad)
