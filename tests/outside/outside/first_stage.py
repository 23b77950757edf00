"""first_stage: the first `depth` stages and the head train, the rest stays as the source has it."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from headstart.strategies.section import FineTuning

if TYPE_CHECKING:
    from headstart.strategies.task import Task


class FirstStage(FineTuning):
    depth: Annotated[int, Field(ge=1)] = 1

    short_for: ClassVar = {"transfer": "partial"}

    def choose_part(self, task: "Task") -> dict[str, str]:
        task.bundle.network.train_only(range(self.depth))
        return {"part": f"first {self.depth}"}


STRATEGY = FirstStage
