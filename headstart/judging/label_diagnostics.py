"""Diagnostics of a model of several labels: how well it tells each of them."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np

from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.groups import groups_at
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import Resampling
from headstart.metrics.wilson import share_interval


@dataclass(frozen=True)
class LabelFigures:
    """How well a model tells one label, on the test items of which it is known."""

    name: str
    items: int
    """those that have it"""
    frequency: float
    """their share: the average precision of a guess"""
    threshold: float
    """the probability from which on it is given"""
    average_precision: Interval
    precision: Interval
    """the share that have it of those that were given it"""
    recall: Interval
    """the share that were given it of those that have it"""
    f1: float


def diagnose_labels(found: Predictions, **how: Unpack[Resampling]) -> tuple[LabelFigures, ...]:
    """The figures of each label that some test item has, in the order of the labels."""
    figures, groups, confidence = [], how.get("groups"), how.get("confidence", 0.95)
    for number, name in enumerate(found.classes):
        known = found.labels[:, number] >= 0
        has, scores = found.labels[known, number] == 1, found.predicted[known, number]
        if not has.any():
            continue
        given, own = scores >= 0, groups_at(groups, known)
        of_label: Resampling = {**how, "groups": own}
        figures.append(
            LabelFigures(
                name,
                int(has.sum()),
                float(has.mean()),
                float(found.outputs[0, number, 1]),
                bootstrap_interval(
                    "mean_average_precision",
                    has.astype(np.int8)[:, None],
                    scores[:, None],
                    1,
                    **of_label,
                ),
                _share(has, given, own, confidence),
                _share(given, has, own, confidence),
                2 * float((has & given).sum()) / float(has.sum() + given.sum()),
            )
        )
    return tuple(figures)


def _share(holds: np.ndarray, among: np.ndarray, groups: np.ndarray | None, confidence: float) -> Interval:
    if not among.any():
        return Interval(0.0, 0.0, 1.0)
    return share_interval(holds[among], groups_at(groups, among), confidence=confidence)
