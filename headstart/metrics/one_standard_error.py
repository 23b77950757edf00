"""The one-standard-error rule: of two models the simpler one, unless the other is better by more than noise."""

import numpy as np

from headstart.metrics.calibration import calibrated_losses
from headstart.metrics.groups import group_numbers


def beats(logits: np.ndarray, simpler: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> bool:
    """Whether a model is better than a simpler one by more than one standard error of the paired difference, in the
    share of right answers or in the log loss, each at the temperature that suits it.

    Breiman et al., "Classification and regression trees", 1984, section 3.4.3. False where there are fewer than two
    samples, or groups of them.

    Args:
        logits, simpler: (N, K), of both models on the same held-out samples.
        labels: int (N,).
        groups: (N,), as in `group_numbers`.
    """
    hits = (logits.argmax(1) == labels).astype(float) - (simpler.argmax(1) == labels)
    return is_above_noise(hits, groups) or is_above_noise(
        calibrated_losses(simpler, labels) - calibrated_losses(logits, labels), groups
    )


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
