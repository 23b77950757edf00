"""Network: stages from input to output, then a linear head; the interface for transfer learning."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.errors import InputError
from headstart.modalities.batch import Inputs

# Share of a batch in a batch norm's running statistics, at least: PyTorch's own default.
_LEAST_MOMENTUM = 0.1


class Network(nn.Module):
    """Stages that map a sample to a feature vector, and a linear head that maps the vector to logits, or to a number.

    `forward(x)` is `head(dropout(features(x)))` and `features(x)` is the composition of `stages`, for every
    architecture. Freezing, layer-wise learning rates and probes depend on this alone, not on layer names. The last
    stage ends with the pooling. Dropout acts only in training, so a probe on features predicts like the network.
    """

    scale: Tensor | None
    offset: Tensor | None
    independent = False
    """whether each logit answers a question of its own, by a sigmoid, and not all of them one together, by a softmax"""

    def __init__(self, stages: Iterable[nn.Module], head: nn.Linear, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.head = head
        # Of a head that answers with a number, its unit; a network of classes has neither.
        self.register_buffer("scale", None)
        self.register_buffer("offset", None)
        self._frozen: frozenset[int] = frozenset()
        self._keeps_statistics = False

    @property
    def feature_dim(self) -> int:
        """The length of a feature vector."""
        return self.head.in_features

    @property
    def frozen_stages(self) -> int:
        """The number of leading stages, counted from the input, that do not train."""
        return next((p for p in range(len(self.stages)) if p not in self._frozen), len(self.stages))

    def features(self, x: Inputs) -> Tensor:
        """Map inputs, such as maps (N, C, H, W), to feature vectors (N, feature_dim)."""
        for stage in self.stages:
            x = stage(x)
        vectors: Tensor = x  # type: ignore[assignment]
        return vectors

    def activations(self, x: Inputs, start: int = 0) -> list[Inputs]:
        """Return the outputs of the stages from `start` on; the last one is the feature vectors (N, feature_dim).

        `x` is the input of stage `start`: preprocessed samples for 0, else the output of stage `start` - 1. For `start`
        = len(stages), `x` is the feature vectors, and the only entry of the result.
        """
        outputs = [] if start < len(self.stages) else [x]
        for position in range(start, len(self.stages)):
            x = self.stages[position](x)
            outputs.append(x)
        return outputs

    def classify(self, features: Inputs) -> Tensor:
        """Map feature vectors (N, feature_dim) to logits (N, classes)."""
        logits: Tensor = self.head(self.dropout(features))
        if self.scale is not None and self.offset is not None:
            logits = logits * self.scale + self.offset
        return logits

    def measure(self, offset: float, scale: float) -> None:
        """Answer with a number: the head's output times `scale`, plus `offset`.

        A head then works with numbers of mean 0 and deviation 1, whatever the unit of the target is.
        """
        device = self.head.weight.device
        self.offset, self.scale = (torch.tensor(value, dtype=torch.float32, device=device) for value in (offset, scale))

    def classify_only(self) -> None:
        """Answer with logits of classes, as the head gives them."""
        self.offset = self.scale = None
        self.independent = False

    def label(self) -> None:
        """Answer with the logits of labels that do not exclude one another."""
        self.classify_only()
        self.independent = True

    def forward(self, x: Inputs) -> Tensor:
        """Map inputs to logits (N, classes)."""
        return self.classify(self.features(x))

    def replace_head(self, classes: int, generator: torch.Generator | None = None) -> None:
        """Replace the head by a new one from `linear_head`."""
        head = linear_head(self.feature_dim, classes, generator)
        self.head = head.to(self.head.weight.device, self.head.weight.dtype)

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages and unfreeze all others.

        0 unfreezes everything; `len(self.stages)` leaves only the head to train.

        Raises:
            InputError: the number is outside of that range.
        """
        if not 0 <= stages <= len(self.stages):
            raise InputError(
                f"cannot freeze {stages} stages of a network that has {len(self.stages)}; "
                f"choose 0 to {len(self.stages)}"
            )
        self.train_only(range(stages, len(self.stages)))

    def train_only(self, stages: range) -> None:
        """Train the stages at these positions and the head, and freeze all others.

        A frozen stage has no gradients and stays in eval mode while the network trains, so that its batch-norm
        statistics do not change.
        """
        self._frozen = frozenset(range(len(self.stages))) - set(stages)
        for position, stage in enumerate(self.stages):
            stage.requires_grad_(position in stages)
        self.train(self.training)

    @property
    def keeps_statistics(self) -> bool:
        """True if batch norms normalise by fixed statistics; see `keep_statistics`."""
        return self._keeps_statistics

    def unfreeze(self) -> None:
        """Unfreeze every stage."""
        self.freeze(0)

    def keep_statistics(self, keep: bool) -> None:
        """Set whether batch norms in trained stages normalise by their running statistics instead of the batch's. Their
        scales and shifts are trained in both cases."""
        self._keeps_statistics = keep
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Set training or eval mode; frozen stages, and batch norms with fixed statistics, stay in eval mode."""
        super().train(mode)
        for position in self._frozen:
            self.stages[position].eval()
        if self._keeps_statistics:
            for norm in batch_norms(self.stages):
                norm.eval()
        return self


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """All batch norms in `module`, in their order."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def follow_batches(module: nn.Module) -> None:
    """Let the running statistics of all batch norms in `module` follow a training of a few hundred steps.

    The momentum of some architectures is meant for hundreds of thousands: MobileNetV3's statistics take a hundredth of
    each batch, and those of a mean over all batches ever less. After 330 steps the network predicted its training
    batches by their own statistics, and new samples no better than chance: docs/studies/schedule.md.
    """
    for norm in batch_norms(module):
        norm.momentum = max(norm.momentum or 0.0, _LEAST_MOMENTUM)


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Set `module` and its parts to eval mode inside the context, and restore their modes afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def linear_head(feature_dim: int, classes: int, generator: torch.Generator | None = None) -> nn.Linear:
    """Return a linear head with weights from N(0, 0.01²) and zero bias; for 0 classes, a head without outputs.

    Nearly equal initial logits keep a new head's first, arbitrary gradients from distorting transferred features (Kumar
    et al. 2022); weights of exactly 0 would pass no gradient to the stages in the first step.
    """
    if classes == 0:
        # Built with one output, which is then removed: torch's initialisation warns of empty weights.
        none = nn.Linear(feature_dim, 1)
        none.out_features = 0
        none.weight, none.bias = nn.Parameter(none.weight[:0]), nn.Parameter(none.bias[:0])
        return none
    head = nn.Linear(feature_dim, classes)
    nn.init.normal_(head.weight, std=0.01, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def identity_head(classes: int) -> nn.Linear:
    """Return a head that passes its inputs (N, classes) on: of networks whose features are logits already."""
    head = nn.Linear(classes, classes)
    with torch.no_grad():
        head.weight.copy_(torch.eye(classes))
        head.bias.zero_()
    return head


def first_convolution(network: Network) -> nn.Conv2d | None:
    """The first convolution over maps, in the order of the stages; None without one."""
    return next((module for module in network.stages.modules() if isinstance(module, nn.Conv2d)), None)


def adapt_channels(network: Network, channels: int, shares: Sequence[float] | None = None) -> None:
    """Change the first convolution, which there must be, to read images with `channels` channels.

    Each new kernel is the sum of the old ones over their channels times the channel's share, by default 1 / `channels`,
    so that the response to an image with equal channels (for example a grey one as RGB) does not change where the
    shares add up to 1.
    """
    first = first_convolution(network)
    assert first is not None  # noqa: S101 (the caller knows the network)
    if first.in_channels == channels:
        return
    with torch.no_grad():
        summed = first.weight.sum(dim=1, keepdim=True)
        kernels = summed * summed.new_tensor(shares or [1 / channels] * channels).view(1, channels, 1, 1)
    first.in_channels = channels
    first.weight = nn.Parameter(kernels, requires_grad=first.weight.requires_grad)
