"""zero: nothing is trained.

The head is the source's own where it knows every class of the target. Elsewhere it is the nearest class mean of the
source's features, with the means of the training split (Snell, Swersky and Zemel, "Prototypical networks for few-shot
learning", NeurIPS 2017).
"""

from typing import TYPE_CHECKING, ClassVar

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
        from headstart.features.heads import class_means
        from headstart.metrics.groups import group_numbers

        task = task.on_all_labels()
        labelled = task.dataset.split("train")
        if task.install_source_head():
            # It has learned from none of them.
            judged = task.judge(labelled, task.bundle.predict_logits(labelled.samples), calibrate=False)
            return task.result(judged, {"head": "source"})
        groups = group_numbers(labelled.groups)
        means = class_means(task.features(), labelled.labels, len(task.bundle.classes), groups)
        means.head.install(task.bundle.network)
        judged = task.judge(labelled, means.logits, means.held_out, calibrate=False)
        return task.result(judged, {"head": "nearest class mean"})


STRATEGY = Zero
