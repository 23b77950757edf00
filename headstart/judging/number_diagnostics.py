"""Diagnostics of a model of numbers: where its errors lie, and whether its intervals hold what they promise."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np

from headstart.metrics.bootstrap import task_intervals
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import Resampling
from headstart.metrics.task import REGRESSION
from headstart.metrics.tasks.regression import COVERAGE, coverage_spread
from headstart.metrics.wilson import share_interval

# Ranges of the labels that errors are told for.
_RANGES = 5


@dataclass(frozen=True)
class Range:
    """The items whose labels lie between two numbers, both included."""

    low: float
    high: float
    items: int
    error: float
    """mean absolute error"""
    bias: float
    """mean of prediction less label"""
    covered: float | None
    """the share whose interval holds the label; None without intervals"""


@dataclass(frozen=True)
class NumberDiagnostics:
    """The findings on the test split; `labels` and `predicted` are (N,)."""

    labels: np.ndarray
    predicted: np.ndarray
    margin: float | None
    """half of a prediction's interval; None where too little was held out to find it by"""
    held_out: int
    """the samples, those of a group being one, that it was found by"""
    promised: float
    """the share of new items that the interval should hold"""
    coverage: Interval | None
    """the share that it holds"""
    spread: float
    """how far from the promise the share may lie by chance, as so few were held out"""
    ranges: tuple[Range, ...]


def number_intervals(found: Predictions, **how: Unpack[Resampling]) -> dict[str, Interval]:
    """Every metric of predicted numbers, by name, with its interval, and `coverage`, where there is a margin."""
    intervals = task_intervals(REGRESSION, found.labels, found.predicted, 1, **how)
    groups, confidence = how.get("groups"), how.get("confidence", 0.95)
    held = _covered(found)
    return intervals if held is None else intervals | {"coverage": share_interval(held, groups, confidence=confidence)}


def diagnose_numbers(
    found: Predictions, groups: np.ndarray | None, held_out: Predictions | None, *, confidence: float
) -> NumberDiagnostics:
    """Examine predicted numbers on the test split; `held_out` are those that the model was calibrated by."""
    labels, predicted, held = found.labels, found.predicted, _covered(found)
    order, units = np.argsort(labels, kind="stable"), held_out.units if held_out else 0
    ranges = []
    for rows in np.array_split(order, min(_RANGES, len(order))):
        errors = predicted[rows] - labels[rows]
        covered = None if held is None else float(held[rows].mean())
        low, high = float(labels[rows[0]]), float(labels[rows[-1]])
        ranges.append(Range(low, high, len(rows), float(np.abs(errors).mean()), float(errors.mean()), covered))
    return NumberDiagnostics(
        labels,
        predicted,
        None if held is None else float(found.outputs[0, 2]),
        units,
        COVERAGE,
        None if held is None else share_interval(held, groups, confidence=confidence),
        coverage_spread(units),
        tuple(ranges),
    )


def _covered(found: Predictions) -> np.ndarray | None:
    """Whether each label lies within the margin, bool (N,); None without one."""
    margin = found.outputs[:, 2].astype(np.float64)
    if not np.isfinite(margin).all():
        return None
    held: np.ndarray = np.abs(found.predicted - found.labels) <= margin
    return held
