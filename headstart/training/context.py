"""The run that a training belongs to."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headstart.metrics.task import metric_for
from headstart.storage.state import State
from headstart.training.progress import Progress

OnEpoch = Callable[[int, dict[str, float]], None]
"""Called with an epoch, 0 for the start, and its figures by their names in the record."""


@dataclass(frozen=True)
class RunContext:
    """What all trainings of a run share.

    `seed` is that of new weights, order and augmentation; `metric` chooses on the validation split. `state` keeps
    checkpoints, features and measured speeds, by default where the environment says; None, nowhere. `on_epoch` and
    `progress` are told how far a training is. `refit` trains each contender again on all labels once it has chosen;
    `cross_validate` judges it on more labels than were held out of the training that chose. Without `judge`, a training
    that would choose nothing and only be judged is left out.
    """

    seed: int = 0
    metric: str = "accuracy"
    state: State | None = field(default_factory=State.from_environment)
    on_epoch: OnEpoch | None = None
    progress: Progress | None = None
    refit: bool = True
    cross_validate: bool = True
    judge: bool = True

    @property
    def settings(self) -> dict[str, int | str | bool]:
        """What decides a result, as JSON values: the arguments of a context in another process."""
        return {name: getattr(self, name) for name in ("seed", "metric", "refit", "cross_validate", "judge")}

    @property
    def alone(self) -> "RunContext":
        """That of a training for a judgement alone: it reports no epochs, is not made again on all labels, and holds
        out no others."""
        return replace(self, refit=False, cross_validate=False, on_epoch=None)

    def asking(self, task: str) -> "RunContext":
        """The context of a training for this task: a metric that is not for it gives way to the task's default."""
        return replace(self, metric=metric_for(self.metric, task))
