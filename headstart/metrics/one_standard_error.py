"""The one-standard-error rule: of two models the simpler one, unless the other is better by more than noise."""

import numpy as np

from headstart.metrics.groups import group_numbers


def is_above_noise(differences: np.ndarray, groups: np.ndarray | None = None) -> bool:
    """Whether the mean of paired differences (N,) is above its standard error; not for fewer than two,
    or fewer than two groups."""
    numbers = group_numbers(groups)
    off = differences - differences.mean() if len(differences) else differences
    sums = off if numbers is None else np.bincount(numbers, weights=off)
    if len(sums) < 2:
        return False
    # As of the mean of independent samples, for which each sum is of one.
    error = np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2)) / len(differences)
    return bool(differences.mean() > error)
