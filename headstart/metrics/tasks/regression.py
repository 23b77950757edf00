"""regression: a number, such as an age, a price or a count.

A model's one logit is the number, in the target's unit. Its outputs are the number, the standard deviation σ of its
errors on held-out samples, by which contenders are compared as normal distributions, and the margin q: y lies in
[ŷ - q, ŷ + q] for 90% of new samples that are drawn as the held-out ones were (split conformal prediction: Lei,
G'Sell, Rinaldo, Tibshirani and Wasserman 2018, "Distribution-free predictive inference for regression", section 2.2).
Of samples in groups each group counts alike, as a new sample is of a new group (Lee, Barber and Willett 2023,
"Distribution-free inference with hierarchical data", section 3).
"""

import math
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.metrics.groups import group_numbers
from headstart.metrics.metric import METRICS, metrics_of
from headstart.metrics.moments import moments
from headstart.metrics.one_standard_error import is_above_noise
from headstart.metrics.task import Calibration, Task

COVERAGE = 0.9
"""Share of new samples that the interval of the margin holds"""
_ROUNDING = 1e-9


class Regression(Task):
    name = "regression"
    default_metric = "mae"
    guess_title = "median"
    # What the intervals hold of new samples is off by 0.3 / √n: all labels of a small budget are held out once.
    held_out_enough = 200
    further_trainings = 4

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0].astype(np.float64)

    def losses(self, labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        value, deviation = outputs[:, 0].astype(np.float64), outputs[:, 1].astype(np.float64)
        losses: np.ndarray = ((labels - value) / deviation) ** 2 / 2 + np.log(deviation * math.sqrt(2 * math.pi))
        return losses

    def guess(self, labels: np.ndarray) -> np.ndarray:
        return np.full_like(labels, np.median(labels))

    def calibrated(self, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Calibration:
        if len(labels) == 0:
            return Calibration()
        errors = np.abs(logits[:, 0].astype(np.float64) - labels)
        # Errors of exactly 0 on a few samples would make a model infinitely sure.
        least = 1e-6 * max(1.0, float(np.abs(labels).max()))
        margin = _margin(errors, groups)
        margin = None if margin is None else max(least, margin)
        return Calibration(max(least, float(np.sqrt(np.mean(errors**2)))), margin)

    def outputs(self, logits: np.ndarray, calibration: Calibration) -> np.ndarray:
        value = logits[:, 0].astype(np.float32)
        margin = math.nan if calibration.margin is None else calibration.margin
        return np.stack([value, np.full_like(value, calibration.scale), np.full_like(value, margin)], axis=1)

    def logits(self, outputs: np.ndarray, calibration: Calibration) -> np.ndarray:
        return outputs[:, :1]

    def beats(
        self, outputs: np.ndarray, simpler: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
    ) -> bool:
        ours, theirs = (np.abs(self.predicted(each) - labels) for each in (outputs, simpler))
        return is_above_noise(theirs - ours, groups)

    def check(self, labels: np.ndarray, outputs: np.ndarray, classes_count: int) -> None:
        if labels.ndim != 1 or outputs.ndim != 2 or outputs.shape != (len(labels), 3):
            raise HeadstartError(
                f"Labels of shape {labels.shape} and outputs of shape {outputs.shape} do not belong together; give one "
                "number and one row of value, deviation and margin for each item."
            )
        if len(labels) == 0:
            raise HeadstartError("There are no items to evaluate on; give the test split at least one.")
        if not np.isfinite(outputs[:, :2]).all():
            raise HeadstartError("Some values are not finite numbers: the model has diverged; lower its learning rate.")

    def figures(self, labels: np.ndarray, outputs: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
        self.check(labels, outputs, len(classes))
        predicted, found = self.predicted(outputs), moments(labels, self.predicted(outputs))
        margin = outputs[:, 2].astype(np.float64)
        told = np.isfinite(margin)
        held = np.abs(predicted - labels)[told] <= margin[told]
        return {
            **{name: float(METRICS[name].of(found)) for name in metrics_of("regression")},
            **({"coverage": float(held.mean()), "margin": float(margin[told].mean())} if told.any() else {}),
        }


def coverage_spread(held_out: int) -> float:
    """Two standard deviations of the share of new samples that an interval holds whose margin was found by that many
    held-out samples, or groups of them: of a Beta distribution (Vovk 2012, "Conditional validity of inductive conformal
    predictors")."""
    return 2 * math.sqrt(COVERAGE * (1 - COVERAGE) / (held_out + 2))


def _margin(errors: np.ndarray, groups: np.ndarray | None) -> float | None:
    """The quantile of absolute errors (N,) that one of a new sample stays below with a probability of 90%; None where
    fewer than nine samples, or groups of them, tell of no such number.

    One of G groups with n samples has a weight of 1 / (n (G + 1)) on each, and the new sample the rest, at infinity.
    """
    numbers = group_numbers(groups)
    numbers = np.arange(len(errors)) if numbers is None else numbers
    sizes = np.bincount(numbers)
    order = np.argsort(errors)
    below = np.cumsum(1 / sizes[numbers[order]])
    # Sums of shares of one may lack a rounding.
    rank = int(np.searchsorted(below, COVERAGE * (len(sizes) + 1) - _ROUNDING))
    return None if rank == len(errors) else float(errors[order[rank]])


TASK = Regression()
