"""linear_probe: all stages stay as the source has them, and the head is fitted to their features.

It is the best of several by cross-validation over all labels (Alain and Bengio, "Understanding intermediate layers
using linear classifier probes", 2016; Kornblith et al., "Do better ImageNet models transfer better?", CVPR 2019). That
judges it too, unless trainings are judged with fewer labels to learn from: then heads that saw as few do.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from headstart.strategies.section import PartialTransfer

if TYPE_CHECKING:
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained


class LinearProbe(PartialTransfer):
    """`freeze` is `all`: the settings of a training have no meaning here."""

    freeze: Literal["all"]

    signature: ClassVar = {"transfer": "partial", "freeze": "all"}
    short_for: ClassVar = signature
    in_every_recipe: ClassVar = {"name": "linear_probe", **signature}
    part, refined, trains = "freeze", True, False

    @model_validator(mode="after")
    def _nothing_trains(self) -> Self:
        settings = ("layer_decay", "interpolate", "regularizer", "epochs", "learning_rate", "augmentation")
        for key in (*settings, "augmentation_strength"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} has no meaning where freeze is all: the head is fitted, not trained")
        return self

    def carry(self, task: "Task") -> "Trained":
        whole = task.on_all_labels()
        fitted = whole.fit_head()
        judged = task.judge_by_parts(type(task).fit_head) or whole.judge(
            whole.dataset.split("train"), fitted.logits, fitted.held_out, calibrate=False
        )
        return whole.result(judged, {"head": fitted.kind})


STRATEGY = LinearProbe
