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
        whole = task.on_all_labels()
        labelled = whole.dataset.split("train")
        # A number without a deviation could not be compared with another, nor a label be given without a threshold.
        calibrate = whole.bundle.task != SINGLE_LABEL
        if whole.install_source_head():
            # It has learned from none of them.
            judged = whole.judge(labelled, whole.bundle.predict_logits(labelled.samples), calibrate=calibrate)
            return whole.result(judged, {"head": "source"})
        fitted = whole.fit_plain_head()
        judged = task.judge_by_parts(type(task).fit_plain_head, calibrate=calibrate) or whole.judge(
            labelled, fitted.logits, fitted.held_out, calibrate=calibrate
        )
        return whole.result(judged, {"head": fitted.kind.replace("_", " ")})


STRATEGY = Zero
