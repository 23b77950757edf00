"""The registry of the metrics that a recipe can choose by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.registry import Registry

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Metric:
    """A figure of predictions for labelled items.

    `of` computes it from a tally of the items: of a `single_label` task their `Counts` (..., K) by class, of
    `multi_label` the `Marks` (..., K) by label, which are counts too, and of `regression` the `Moments` (...) of their
    errors; the result is (...).
    """

    title: str
    """as people write it"""
    of: "Callable[[Any], np.ndarray]"
    tasks: tuple[str, ...] = ("single_label",)
    """the tasks whose labels and predictions it compares"""
    lower_is_better: bool = False

    def merit(self, value: float) -> float:
        """The value with the sign by which more is better."""
        return -value if self.lower_is_better else value


CLASSES_OR_LABELS = ("single_label", "multi_label")

METRICS = Registry("metrics", "headstart.metrics.scores", "METRIC", Metric)


def metrics_of(task: str) -> tuple[str, ...]:
    """The names of a task's metrics."""
    return tuple(name for name in METRICS if task in METRICS[name].tasks)


def metric_title(name: str) -> str:
    """The metric's name as people write it: macro F1. A record may name one that is not installed here."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")
