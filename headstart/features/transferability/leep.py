"""LEEP: the mean log-likelihood of the labels given the source's own predictions."""

import numpy as np

from headstart.features.principal import indicators
from headstart.features.score import Probed, Score


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """1/N Σ_i log Σ_z P(y_i | z) θ_z(x_i), at most 0.

    θ(x_i), `probabilities` (N, Z), is the source's prediction for sample i, and
    P(y | z) = Σ_{i: y_i = y} θ_z(x_i) / Σ_i θ_z(x_i) (Nguyen et al., "LEEP: A New Measure to Evaluate Transferability
    of Learned Representations", ICML 2020).
    """
    probabilities, targets = np.asarray(probabilities, dtype=np.float64), indicators(labels)
    joint = targets.T @ probabilities
    marginal = joint.sum(axis=0)
    # A class of the source that has probability 0 for every sample is left out.
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = ((probabilities @ conditional.T) * targets).sum(axis=1)
    return float(np.log(np.clip(expected, np.finfo(np.float64).tiny, 1)).mean())


def _of(probed: Probed) -> float | None:
    return None if probed.probabilities is None else leep(probed.probabilities, probed.labels)


SCORE = Score("LEEP", _of, place=3)
