"""Sums over the items of a regression, from which its metrics follow, for one test split or for thousands of resamples.

As a metric depends on the items through these sums alone, a resample is a product of how often each item was drawn with
the items' summands.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Sums over items; each array is (...,)."""

    items: np.ndarray
    absolute: np.ndarray
    """of the absolute errors"""
    squared: np.ndarray
    """of the squared errors"""
    labels: np.ndarray
    """of the labels, less a constant"""
    label_squares: np.ndarray
    """of the squares of these"""

    @classmethod
    def of_sums(cls, sums: np.ndarray) -> "Moments":
        """The sums (5, ...) of `summands`."""
        return cls(*sums)


def summands(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """What each item adds to the moments, float64 (5, N), of labels and predictions, both float (N,)."""
    errors, centred = predictions.astype(np.float64) - labels, labels - np.mean(labels)
    return np.stack([np.ones(len(labels)), np.abs(errors), errors**2, centred, centred**2])


def moments(labels: np.ndarray, predictions: np.ndarray) -> Moments:
    """The moments () of labels and predictions, both float (N,)."""
    return Moments.of_sums(summands(labels, predictions).sum(axis=1))


def mean_absolute_error(found: Moments) -> np.ndarray:
    return found.absolute / found.items


def root_mean_squared_error(found: Moments) -> np.ndarray:
    root: np.ndarray = np.sqrt(found.squared / found.items)
    return root


def coefficient_of_determination(found: Moments) -> np.ndarray:
    """R² = 1 - Σ (ŷ - y)² / Σ (y - ȳ)²; of labels that are all equal 0, or 1 where they are predicted exactly."""
    spread = found.label_squares - found.labels**2 / found.items
    spread = np.where(spread > 1e-12 * found.label_squares, spread, 0.0)
    exact = np.where(found.squared == 0, 1.0, 0.0)
    share: np.ndarray = np.where(spread > 0, 1 - found.squared / np.where(spread > 0, spread, 1.0), exact)
    return share
