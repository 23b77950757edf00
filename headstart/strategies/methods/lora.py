"""lora: the stages' weights stay, and a product of two matrices of rank r is trained beside each.

In the end it is added to the weight, so that the result has the source's architecture (Hu et al., "LoRA: low-rank
adaptation of large language models", ICLR 2022; headstart/strategies/low_rank.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from headstart.searchable import Choices
from headstart.strategies.section import ANY, PartialTransfer

if TYPE_CHECKING:
    from headstart.models.network import Network
    from headstart.strategies.task import Task

# These have most of their weights in convolutions, to which LoRA adds nothing.
_CONVOLUTIONAL = (
    "alexnet", "convnet", "densenet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet", "regnet",
    "resnet", "resnext", "shufflenet", "squeezenet", "vgg", "wide_resnet",
)  # fmt: skip


class Lora(PartialTransfer):
    """`lora` is the rank r."""

    lora: Annotated[int, Field(ge=1, le=256), Choices((4, 8, 16, 32))]

    signature: ClassVar = {"transfer": "partial", "lora": ANY}
    short_for: ClassVar = {"transfer": "partial", "lora": 8}
    part, refined = "lora", True

    def check_architectures(self, architectures: Sequence[str | None]) -> None:
        if all(name and name.startswith(_CONVOLUTIONAL) for name in architectures):
            known = ", ".join(dict.fromkeys(map(str, architectures)))
            raise ValueError(
                f"strategies.{self.name}: lora adds to the linear layers of a vision transformer, and the sources here "
                f"are convolutional ({known}); use surgical, or a source such as torchvision://vit_b_16/IMAGENET1K_V1"
            )

    def choose_part(self, task: "Task") -> dict[str, str]:
        from headstart.strategies.low_rank import add_lora

        bundle = task.bundle
        add_lora(bundle.network, self.lora, architecture=bundle.architecture, seed=task.context.seed)
        return {}

    def finish(self, network: "Network") -> None:
        from headstart.strategies.low_rank import merge_lora

        merge_lora(network)


STRATEGY = Lora
