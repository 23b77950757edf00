"""zero: nothing is trained.

The head is the source's own where it knows every class of the target. Elsewhere it is the nearest class mean of the
source's features, with the means of the training split (Snell, Swersky and Zemel, "Prototypical networks for few-shot
learning", NeurIPS 2017), for several labels each one's mean against that of all other samples, and for numbers least
squares on the features' covariance with the training labels.
"""

from typing import TYPE_CHECKING, ClassVar

from headstart.metrics.task import SINGLE_LABEL
from headstart.strategies.section import Strategy

if TYPE_CHECKING:
    from headstart.strategies.task import Task
    from headstart.training.trained import Trained


class Zero(Strategy):
    signature: ClassVar = {"transfer": "zero"}
    short_for: ClassVar = signature
    in_every_recipe: ClassVar = {"transfer": "zero"}
    trains = False

    @classmethod
    def no_meaning(cls, key: str) -> str | None:
        return f"{key} has no meaning in a zero transfer, which trains nothing; remove it"

    def carry(self, task: "Task") -> "Trained":
        task = task.on_all_labels()
        labelled = task.dataset.split("train")
        # A number without a deviation could not be compared with another, nor a label be given without a threshold.
        calibrate = task.bundle.task != SINGLE_LABEL
        if task.install_source_head():
            # It has learned from none of them.
            judged = task.judge(labelled, task.bundle.predict_logits(labelled.samples), calibrate=calibrate)
            return task.result(judged, {"head": "source"})
        fitted = task.fit_plain_head()
        judged = task.judge(labelled, fitted.logits, fitted.held_out, calibrate=calibrate)
        return task.result(judged, {"head": fitted.kind.replace("_", " ")})


STRATEGY = Zero
