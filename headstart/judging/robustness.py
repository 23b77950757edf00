"""Robustness: the accuracy of a model on test items under the corruptions of their modality."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import share_interval
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle

SEVERITIES = (1, 2, 3)


@dataclass(frozen=True)
class Corrupted:
    """The accuracy under one corruption at each of the severities."""

    corruption: str
    accuracies: tuple[Interval, ...]


@dataclass(frozen=True)
class Robustness:
    """The accuracy on `items` test items as they are, and under each corruption."""

    items: int
    clean: Interval
    corrupted: tuple[Corrupted, ...]
    shares: tuple[float, ...] = ()
    """for each item the share of its corrupted forms that the model is right on"""

    @property
    def mean(self) -> float:
        """The mean accuracy over all corruptions and severities."""
        return float(np.mean([each.value for row in self.corrupted for each in row.accuracies]))


def robustness(
    bundle: ModelBundle,
    samples: Any,
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    groups: np.ndarray | None = None,
) -> Robustness:
    """Judges a model on stored samples, an array (N, …) or arrays, with labels (N,) and `groups` (N,) as in
    `Predictions`, as they are and under every corruption at every severity. Intervals are Wilson's."""

    def right(seen: Any) -> np.ndarray:
        return bundle.predict_logits(seen).argmax(axis=1) == labels

    def judged(hits: np.ndarray) -> Interval:
        return share_interval(hits, groups, confidence=confidence)

    corruptions = modality(bundle.modality).corruptions
    hits = {each.title: [right(each.apply(samples, severity)) for severity in SEVERITIES] for each in corruptions}
    return Robustness(
        len(labels),
        judged(right(samples)),
        tuple(Corrupted(title, tuple(map(judged, of_severity))) for title, of_severity in hits.items()),
        tuple(np.mean([each for of_severity in hits.values() for each in of_severity], axis=0).tolist())
        if hits
        else (),
    )
