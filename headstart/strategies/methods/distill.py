"""distill: the source is fine-tuned, and a small network from random weights learns to answer as that teacher does.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015. The teacher sees the same augmented
samples as the student (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022).
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from headstart.searchable import Range
from headstart.strategies.section import AugmentationName, AugmentationStrength, Epochs, LearningRate, Strategy

if TYPE_CHECKING:
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained


class Distill(Strategy):
    """`student` is the architecture of the model that comes of it, by default the modality's small one. `teacher` is
    the strategy that carries the source to the target first. `temperature` divides the logits of both, whose
    probabilities are compared. `epochs`, `learning_rate`, `augmentation` and `augmentation_strength` are those of the
    student and override the recipe's section `training`."""

    transfer: Literal["full"] = "full"
    student: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    teacher: Literal["full", "lp_ft", "wise_ft", "partial", "linear_probe"] = "full"
    temperature: Annotated[Annotated[float, Field(ge=1, le=20)], Range(1.0, 8.0, log=True)] = 2.0
    epochs: Epochs = None
    learning_rate: LearningRate = None
    augmentation: AugmentationName = None
    augmentation_strength: AugmentationStrength = None

    short_for: ClassVar = {"strategy": "distill", "transfer": "full"}
    # A trial would be a teacher's training and a student's, which seldom answers better.
    searched: ClassVar = False

    def carry(self, task: "Task") -> "Trained":
        from headstart.strategies.distillation import distilled

        return distilled(self, task)

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        return f"{key} has no meaning in distill, whose student begins with random weights; set it in a strategy beside"

    @classmethod
    def with_defaults(cls, values: Any) -> dict[str, Any]:
        return {"name": "distill", **values}


STRATEGY = Distill
