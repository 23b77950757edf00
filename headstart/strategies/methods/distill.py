"""distill: a small network from random weights learns to answer as the best of the recipe's other strategies does.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015. The teacher sees the same augmented
samples as the student (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from headstart.searchable import Range
from headstart.sections import with_tuples
from headstart.strategies.section import (
    STRATEGIES,
    AugmentationName,
    AugmentationStrength,
    Epochs,
    LearningRate,
    Strategy,
)

if TYPE_CHECKING:
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained

_BEST = "best"


class Distill(Strategy):
    """`student` is the architecture of the model that comes of it, by default the modality's small one. `teacher` is
    the strategy whose model teaches it: `best`, the one of those beside it in the recipe that held-out predictions
    choose, `full` where there is none; or the name of one. `temperature` divides the logits of both, whose
    probabilities are compared. `epochs`, `learning_rate`, `augmentation` and `augmentation_strength` are those of the
    student and override the recipe's section `training`."""

    transfer: Literal["full"] = "full"
    student: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    teacher: str | tuple[SerializeAsAny[Strategy], ...] = _BEST
    temperature: Annotated[Annotated[float, Field(ge=1, le=20)], Range(1.0, 8.0, log=True)] = 2.0
    epochs: Epochs = None
    learning_rate: LearningRate = None
    augmentation: AugmentationName = None
    augmentation_strength: AugmentationStrength = None

    short_for: ClassVar = {"strategy": "distill", "transfer": "full"}
    # A trial would be a teacher's training and a student's, which seldom answers better.
    searched: ClassVar = False

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        return with_tuples(values, "teacher")

    @property
    def teachers(self) -> tuple[Strategy, ...]:
        """The strategies of which held-out predictions choose the teacher."""
        if isinstance(self.teacher, str):
            name = "full" if self.teacher == _BEST else self.teacher
            return (Strategy.of({"name": name, "strategy": name}),)
        return self.teacher

    def among(self, listed: Mapping[str, Strategy]) -> Self:
        if not isinstance(self.teacher, str):
            return self
        beside = {name: each for name, each in listed.items() if each.copy_of is None and not isinstance(each, Distill)}
        if self.teacher == _BEST:
            found = tuple(beside.values())
        elif self.teacher in beside:
            found = (beside[self.teacher],)
        elif self.teacher in listed or self.teacher == "distill" or self.teacher not in STRATEGIES:
            raise ValueError(
                f"{self.name}.teacher: {self.teacher!r} is no strategy that can teach; name one of "
                f"{', '.join([_BEST, *beside])}"
            )
        else:
            found = self.teachers
        return self.model_copy(update={"teacher": found or self.teachers})

    def check_stages(self, stages: int, model: str) -> None:
        for each in self.teachers:
            each.check_stages(stages, model)

    def require_packages(self) -> None:
        for each in self.teachers:
            each.require_packages()

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
