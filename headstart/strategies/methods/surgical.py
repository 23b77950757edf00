"""surgical: one third of the stages is trained, and the head.

The first third where the inputs differ, the last where the labels do (Lee et al., "Surgical fine-tuning improves
adaptation to distribution shifts", ICLR 2023).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from headstart.errors import InputError
from headstart.searchable import Choices
from headstart.strategies.section import ANY, PartialTransfer

if TYPE_CHECKING:
    from torch import Tensor

    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.strategies.task import Task

PARTS = ("first", "middle", "last")
# Samples whose gradients are taken: an epoch of a large data set is too much for one choice of three.
_SAMPLES = 256


class Surgical(PartialTransfer):
    """`surgical` is the third that trains. `auto` takes the one with the largest mean of its stages' `signals`, with
    the source's own head where it knows every class of the target and with the head at the start elsewhere. Tried on
    shifted digits: docs/studies/surgical.md.
    """

    surgical: Annotated[Literal["first", "middle", "last", "auto"], Choices(PARTS)]

    signature: ClassVar = {"transfer": "partial", "surgical": ANY}
    short_for: ClassVar = {"transfer": "partial", "surgical": "auto"}
    part, refined = "surgical", True

    def check_stages(self, stages: int, model: str) -> None:
        if stages < len(PARTS):
            raise InputError(
                f"strategies.{self.name}.surgical parts the stages into three, but {model} has {stages}; use "
                "transfer: full."
            )

    def settled(self, decisions: Mapping[str, str | float | None]) -> Self:
        return super().settled(decisions).model_copy(update={"surgical": decisions["part"]})

    def choose_part(self, task: "Task") -> dict[str, str]:
        import numpy as np

        from headstart.training.distributed import current_group

        network, part = task.bundle.network, self.surgical
        thirds = np.array_split(np.arange(len(network.stages)), len(PARTS))
        if part == "auto":
            # A fitted head already answers for the target's labels, and so hides that it is they which differ.
            own = replace(task)
            found = np.array(signals(own.bundle if own.install_source_head() else task.bundle, task.dataset))
            part = current_group().share(PARTS[int(np.argmax([found[third].mean() for third in thirds]))])
        chosen = thirds[PARTS.index(part)]
        network.train_only(range(chosen[0], chosen[-1] + 1))
        return {"part": part}


def signals(bundle: "ModelBundle", dataset: "Dataset") -> list[float]:
    """How much the training samples agree on where each stage's weights should go: for each stage the mean over the
    weights w that move of |mean of g| / (standard deviation of g), with g = ∂L(y_i, f(x_i; w)) / ∂w over the samples i.

    The signal-to-noise ratio of gradients, as in Auto-SNR (Lee et al. 2023, section 4), at most 256 samples without
    augmentation, batch norms as they are at prediction. It does not change with the scale of a weight or of the loss.
    Auto-RGN there, the mean of ‖∇L‖ / ‖w‖, is a good learning rate but no choice between stages: on convnet it is
    largest in the first one whatever differs, as its few weights act at every pixel.
    """
    import numpy as np
    import torch

    from headstart.training.engine import training_device
    from headstart.training.losses import losses

    network, train = bundle.network.eval(), dataset.split("train")
    device = training_device()
    chosen = np.linspace(0, len(train.labels) - 1, min(len(train.labels), _SAMPLES)).astype(int)
    weights = list(network.stages.parameters())
    sums, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for position in chosen:
        sample = dataset.kind.batch(train.samples[position : position + 1]).to(device)
        label = train.labels[position : position + 1]
        given = torch.from_numpy(label if network.scale is None else label.astype(np.float32)).to(device)
        loss = losses(network(bundle.preprocessing(sample)), given, network).mean()
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        torch._foreach_add_(sums, gradients)
        torch._foreach_addcmul_(squares, gradients, gradients)
    ratios = (_ratio(total / len(chosen), square / len(chosen)) for total, square in zip(sums, squares, strict=True))
    of_stages = (
        torch.cat([torch.empty(0, device=device), *(next(ratios) for _ in stage.parameters())])
        for stage in network.stages
    )
    # A stage without weights, such as a pooling, has nothing to train.
    return [float(ratio.mean()) if len(ratio) else 0.0 for ratio in of_stages]


def _ratio(mean: "Tensor", square: "Tensor") -> "Tensor":
    """|mean| / standard deviation of the weights that move, flat, from the means of gradients and of their squares."""
    variance = square - mean.square()
    # Weights that no sample moves, such as the rim of a kernel on a map of one pixel, have no say; and less spread than
    # this is rounding.
    moves = variance > 1e-6 * mean.square()
    return mean[moves].abs() / variance[moves].sqrt()


STRATEGY = Surgical
