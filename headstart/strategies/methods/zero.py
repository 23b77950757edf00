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
        head = "source"
        if not task.install_source_head():
            head = "nearest class mean"
            task.install_class_means()
        return task.result(task.score(task.logits()), {"head": head})


STRATEGY = Zero
