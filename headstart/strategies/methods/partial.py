"""partial: the first stages stay as the source has them, weights and batch-norm statistics; all others train.

Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS 2014.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from headstart.errors import InputError
from headstart.searchable import Range
from headstart.strategies.section import PartialTransfer

if TYPE_CHECKING:
    from headstart.strategies.task import Task


class Partial(PartialTransfer):
    """`freeze` is the number of stages, from the input on, that stay as they are; by default half of them."""

    freeze: Annotated[Annotated[int, Field(ge=1)] | None, Range(0.0, 1.0, of="stages")] = None

    signature: ClassVar = {"transfer": "partial"}
    short_for: ClassVar = signature
    in_every_recipe: ClassVar = {"transfer": "partial"}
    part = "freeze"

    def check_stages(self, stages: int, model: str) -> None:
        if self.freeze and self.freeze > stages:
            raise InputError(
                f"strategies.{self.name}.freeze is {self.freeze}, but {model} has {stages} stages; freeze at most "
                f"{stages}."
            )

    def choose_part(self, task: "Task") -> dict[str, str]:
        # Earlier stages hold what domains share, later ones what is special to the source; half is where they part.
        half = -(-len(task.bundle.network.stages) // 2)
        task.bundle.network.freeze(half if self.freeze is None else self.freeze)
        return {}


STRATEGY = Partial
