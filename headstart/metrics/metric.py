"""The registry of the metrics that a recipe can choose by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from headstart.metrics.counts import Counts


@dataclass(frozen=True)
class Metric:
    """A share in [0, 1] of which higher is better. `of` computes it from the counts (..., K) of K classes, as (...)."""

    title: str
    """as people write it"""
    of: "Callable[[Counts], np.ndarray]"


METRICS = Registry("metrics", "headstart.metrics.scores", "METRIC", Metric)


def metric_title(name: str) -> str:
    """The metric's name as people write it: macro F1. A record may name one that is not installed here."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")
