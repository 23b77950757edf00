"""Robustness: the accuracy of a model on test items under the corruptions of their modality; of several labels the mean
average precision, of numbers the mean absolute error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.intervals import Interval
from headstart.metrics.tally import Resampling
from headstart.metrics.task import SINGLE_LABEL
from headstart.modalities import modality
from headstart.modalities.corruption import Corruption
from headstart.models.bundle import ModelBundle

SEVERITIES = (1, 2, 3)
# Of an interval of a cell among 21, each as many as of the leaderboard would take minutes.
_RESAMPLES = 500


@dataclass(frozen=True)
class Corrupted:
    """The metric under one corruption at each of the severities."""

    corruption: str
    values: tuple[Interval, ...]


@dataclass(frozen=True)
class Robustness:
    """The metric, a share or of numbers an error, on `items` test items as they are, and under each corruption."""

    items: int
    clean: Interval
    corrupted: tuple[Corrupted, ...]
    shares: tuple[float, ...] = ()
    """for each item the share of its corrupted forms that the model is right on; of classes alone"""
    metric: str = "accuracy"

    @property
    def mean(self) -> float:
        """The mean of the metric over all corruptions and severities."""
        return float(np.mean([each.value for row in self.corrupted for each in row.values]))


def predict_corrupted(bundle: ModelBundle, samples: Any) -> np.ndarray:
    """The classes, int (1 + C · 3, N), that a model gives N samples as they are, and then under each of C corruptions
    at each severity; numbers float, and of several labels their logits (1 + C · 3, N, K)."""
    forms = (samples, *(each.apply(samples, severity) for each in _corruptions(bundle) for severity in SEVERITIES))
    return np.stack([bundle.kind.predicted(bundle.predict_logits(form)) for form in forms])


def robustness(
    bundle: ModelBundle,
    samples: Any,
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    groups: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
) -> Robustness:
    """Judges a model on stored samples, an array (N, …) or arrays, with `labels` and `groups` (N,) as in
    `Predictions`, as they are and under every corruption at every severity. Intervals are those of
    `bootstrap_interval`. `predicted` is what `predict_corrupted` gives, where that is known already."""
    found = predict_corrupted(bundle, samples) if predicted is None else predicted
    metric, shares = bundle.kind.default_metric, ()

    def judged(answers: np.ndarray) -> Interval:
        how: Resampling = {"confidence": confidence, "resamples": _RESAMPLES, "groups": groups}
        return bootstrap_interval(metric, labels, answers, len(bundle.classes), **how)

    clean, corrupted = found[0], found[1:]
    if bundle.task == SINGLE_LABEL and len(corrupted):
        shares = tuple((corrupted == labels).mean(axis=0).tolist())
    return Robustness(
        len(labels),
        judged(clean),
        tuple(
            Corrupted(each.title, tuple(map(judged, corrupted[start : start + len(SEVERITIES)])))
            for start, each in zip(range(0, len(corrupted), len(SEVERITIES)), _corruptions(bundle), strict=True)
        ),
        shares,
        metric,
    )


def _corruptions(bundle: ModelBundle) -> Sequence[Corruption]:
    return tuple(modality(bundle.modality).corruptions)
