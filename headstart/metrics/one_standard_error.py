"""The one-standard-error rule: of two models the simpler one, unless the other is better by more than noise."""

import numpy as np

from headstart.metrics.calibration import calibrated_losses


def beats(logits: np.ndarray, simpler: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a model is better than a simpler one by more than one standard error of the paired difference, in the
    share of right answers or in the log loss, each at the temperature that suits it.

    Breiman et al., "Classification and regression trees", 1984, section 3.4.3. False where there are fewer than two
    samples.

    Args:
        logits, simpler: (N, K), of both models on the same held-out samples.
        labels: int (N,).
    """
    hits = (logits.argmax(1) == labels).astype(float) - (simpler.argmax(1) == labels)
    return is_above_noise(hits) or is_above_noise(
        calibrated_losses(simpler, labels) - calibrated_losses(logits, labels)
    )


def is_above_noise(differences: np.ndarray) -> bool:
    """Whether the mean of paired differences (N,) is above its standard error; not for fewer than two."""
    if len(differences) < 2:
        return False
    return bool(differences.mean() > differences.std(ddof=1) / np.sqrt(len(differences)))
