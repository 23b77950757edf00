"""The registry of tasks: what a label is, what a model answers, and how the two are compared."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.metrics.metric import METRICS
from headstart.registry import Registry

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Calibration:
    """What held-out samples tell of how sure a model may be.

    `scale` is above 0: of classes and labels the temperature by which logits are divided, of numbers the standard
    deviation of the errors. `margin` is by how much a number may be off: half of an interval that holds 90% of new
    samples. `thresholds` are the probabilities from which on each of several labels is given.
    """

    scale: float = 1.0
    margin: float | None = None
    thresholds: tuple[float, ...] | None = None


class Task(ABC):
    """One kind of question.

    A model gives *logits*, float (N, L): one for each class or label, or the number itself. *Outputs*, float (N, ...),
    are what is made of them by a calibration and kept of a test split: probabilities (N, K), those of labels with their
    thresholds (N, K, 2), or the number with its standard deviation and margin (N, 3).

    *Labels* are (N,): the indices of classes, int, or numbers, float; of several labels they are int8 (N, K): 1 where
    an item has the label, 0 where it does not, -1 where that is not known.
    """

    name: ClassVar[str]
    """as recipes call it"""
    default_metric: ClassVar[str]
    guess_title: ClassVar[str]
    """the best constant answer to the test split, as leaderboards name it"""
    held_out_enough: ClassVar[int] = 100
    """held-out samples from which on one training is enough to choose and calibrate by: docs/studies/choice.md"""
    further_trainings: ClassVar[int] = 2
    """trainings at most, beside the one that chooses, that hold out other samples until there are enough"""

    @abstractmethod
    def predicted(self, outputs: "np.ndarray") -> "np.ndarray":
        """The answers (N,) that outputs or logits come to: the indices of classes, int, or numbers, float. Of several
        labels the scores (N, K): how far each is above its threshold."""

    @abstractmethod
    def losses(self, labels: "np.ndarray", outputs: "np.ndarray") -> "np.ndarray":
        """The negative log-likelihood of each label, float (N,)."""

    @abstractmethod
    def guess(self, labels: "np.ndarray") -> "np.ndarray":
        """The best constant answer to labels, for each of them, as in `predicted`."""

    @abstractmethod
    def calibrated(self, logits: "np.ndarray", labels: "np.ndarray", groups: "np.ndarray | None" = None) -> Calibration:
        """The calibration that suits the logits of held-out samples, which may be none; `groups` (N,) as in
        `group_numbers`."""

    @abstractmethod
    def outputs(self, logits: "np.ndarray", calibration: Calibration) -> "np.ndarray":
        """The outputs, float32, by a calibration."""

    @abstractmethod
    def logits(self, outputs: "np.ndarray", calibration: Calibration) -> "np.ndarray":
        """Logits (N, K) that have these outputs by that calibration."""

    @abstractmethod
    def beats(
        self, outputs: "np.ndarray", simpler: "np.ndarray", labels: "np.ndarray", groups: "np.ndarray | None" = None
    ) -> bool:
        """Whether a model's outputs for held-out samples are better than a simpler model's by more than one standard
        error of the paired difference (Breiman et al. 1984, section 3.4.3); `groups` (N,) as in `group_numbers`."""

    @abstractmethod
    def check(self, labels: "np.ndarray", outputs: "np.ndarray", classes_count: int) -> None:
        """HeadstartError unless labels (N,) and outputs fit each other."""

    @abstractmethod
    def figures(self, labels: "np.ndarray", outputs: "np.ndarray", classes: tuple[str, ...]) -> dict[str, Any]:
        """The figures that the record keeps of one model on one split, as JSON values, every metric by name."""


def metric_for(metric: str, task: str) -> str:
    """The metric that a training judges by: the recipe's, or the default of a task which that is not for."""
    return metric if task in METRICS[metric].tasks else TASKS[task].default_metric


TASKS: Registry[Task] = Registry("tasks", "headstart.metrics.tasks", "TASK", Task)  # type: ignore[type-abstract]

SINGLE_LABEL = "single_label"
MULTI_LABEL = "multi_label"
REGRESSION = "regression"
# What a model of numbers answers, in the place of the names of classes.
NUMBER = ("value",)
