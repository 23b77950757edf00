"""Robustness: the accuracy of a model on test items under the corruptions of their modality."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import share_interval
from headstart.modalities import modality
from headstart.modalities.corruption import Corruption
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


def predict_corrupted(bundle: ModelBundle, samples: Any) -> np.ndarray:
    """The classes, int (1 + C · 3, N), that a model gives N samples as they are, and then under each of C corruptions
    at each severity."""
    forms = (samples, *(each.apply(samples, severity) for each in _corruptions(bundle) for severity in SEVERITIES))
    return np.stack([bundle.predict_logits(form).argmax(axis=1) for form in forms])


def robustness(
    bundle: ModelBundle,
    samples: Any,
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    groups: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> Robustness:
    """Judges a model on stored samples, an array (N, …) or arrays, with labels (N,) and `groups` (N,) as in
    `Predictions`, as they are and under every corruption at every severity. Intervals are Wilson's. `predicted` is what
    `predict_corrupted` gives, where that is known already."""
    found = (predict_corrupted(bundle, samples) if predicted is None else predicted) == labels

    def judged(hits: np.ndarray) -> Interval:
        return share_interval(hits, groups, confidence=confidence)

    clean, corrupted = found[0], found[1:]
    return Robustness(
        len(labels),
        judged(clean),
        tuple(
            Corrupted(each.title, tuple(map(judged, corrupted[start : start + len(SEVERITIES)])))
            for start, each in zip(range(0, len(corrupted), len(SEVERITIES)), _corruptions(bundle), strict=True)
        ),
        tuple(corrupted.mean(axis=0).tolist()) if len(corrupted) else (),
    )


def _corruptions(bundle: ModelBundle) -> Sequence[Corruption]:
    return tuple(modality(bundle.modality).corruptions)
