"""The recipe's sections of a training and of a pretraining."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headstart.sections import Section
from headstart.training.objective import OBJECTIVES


class Training(Section):
    """The budget and settings of one training; what is null follows from the size of the training split.

    `batch_size` is the effective one: what one step of the optimiser sees, over all processes and `accumulate`
    micro-batches. `class_weights: auto` weighs classes by their inverse frequency once the largest has over 1.5 times
    the samples of the smallest. `warmup` is the share of all steps over which the learning rate rises. `flip` also
    shows each sample mirrored, which suits photographs and not digits; `augmentation` is the name of one of the
    modality, `none`, or `auto`, the modality's own choice, and `augmentation_strength` scales how far
    `augmentation` goes. `views` is how many variants of each sample frozen stages are run on. `ema` is the decay of an
    average of the weights that is kept instead of the last ones. `precision`, `layout` and `compile` pin what is
    measured otherwise.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["auto", "none", "balanced"] = "auto"
    patience: Annotated[int, Field(ge=1)] | None = None
    augmentation: Annotated[str, Field(min_length=1)] = "auto"
    augmentation_strength: Annotated[float, Field(ge=0, le=2)] | None = None
    flip: bool = False
    views: Annotated[int, Field(ge=1, le=64)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"


class Pretraining(Training):
    """How a source model is trained on the source data.

    `supervised` learns the labels; `vicreg` needs none: it learns what two views of a sample share, to the last epoch.
    `mlm`, for texts, needs none either: it learns to guess tokens that are hidden. `start` is a model whose weights the
    training goes on from, a reference as candidates are; its architecture is then the source's.
    """

    architecture: Annotated[str, Field(min_length=1)] = "convnet"
    start: Annotated[str, Field(min_length=1)] | None = None
    objective: Annotated[str, OBJECTIVES] = "supervised"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = 64

    @model_validator(mode="after")
    def _has_one_architecture(self) -> Self:
        if self.start and self.architecture != type(self).model_fields["architecture"].default:
            raise ValueError("architecture has no meaning with start, whose own it is; remove one of them")
        return self

    @model_validator(mode="after")
    def _settings_fit_the_objective(self) -> Self:
        objective = OBJECTIVES[self.objective]
        for key in objective.no_meaning:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no meaning with objective {self.objective}, {objective.reason}; remove it")
        return self
