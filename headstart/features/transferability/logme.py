"""LogME: the log of the maximum evidence of linear models of the labels, per sample and class."""

import numpy as np

from headstart.features.principal import indicators, projected
from headstart.features.score import Score

# λ of the ridge regressions, in units of the largest squared singular value: beyond either end nothing changes.
_PENALTIES = np.logspace(-12, 12, 121)
_SECTIONS = 40
_GOLDEN = (np.sqrt(5) - 1) / 2


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes of the maximum of log p(y | F, α, β) over α and β, divided by N.

    For each class, y (N,) is its indicator and y ~ N(F w, 1/β), w ~ N(0, 1/α), so that
    log p(y | F, α, β) = N/2 log β + D/2 log α − N/2 log 2π − β/2 ‖F m − y‖² − α/2 ‖m‖² − 1/2 log |A|, with
    A = α I + β FᵀF and m = β A⁻¹ Fᵀy (You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer
    Learning", ICML 2021).

    The paper's fixed-point iteration may stop at a local maximum; this is a one-dimensional search instead. With
    λ = α/β, F = U diag(σ) Vᵀ and z = Uᵀy, the best β is N / (Σ z_i² λ/(λ+σ_i²) + ‖y‖² − ‖z‖²), and the evidence
    −N/2 (log 2π/β + 1) − 1/2 Σ log(1 + σ_i²/λ). One decomposition serves all classes. Where labels are an exact
    function of fewer features than samples, the evidence has no maximum; λ stops at 10⁻¹² σ_max².
    """
    targets = indicators(labels)
    samples = len(features)
    variances, coordinates = projected(np.asarray(features, dtype=np.float64), targets)
    squares = coordinates.T**2
    # With as many directions as samples only rounding errors are left over.
    rest = np.maximum(targets.sum(axis=0) - squares.sum(axis=1), 0) * (len(variances) < samples)

    def evidence(penalty: np.ndarray) -> np.ndarray:
        """The evidence (K, L) at λ (K, L)."""
        ratios = variances / penalty[:, :, None]
        noise = ((squares[:, None, :] / (1 + ratios)).sum(axis=2) + rest[:, None]) / samples
        return np.asarray(-0.5 * samples * (np.log(2 * np.pi * noise) + 1) - 0.5 * np.log1p(ratios).sum(axis=2))

    grid = np.log(_PENALTIES * (variances.max(initial=0.0) or 1.0))
    # One λ at a time: all of them at once take classes × penalties × features of memory.
    values = np.stack([evidence(np.full((targets.shape[1], 1), np.exp(at)))[:, 0] for at in grid])
    best = values.argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        at_left, at_right = evidence(np.exp(np.stack([left, right], axis=1))).T
        low, high = np.where(at_left < at_right, left, low), np.where(at_left < at_right, high, right)
    found = evidence(np.exp((low + high) / 2)[:, None])[:, 0]
    return float(np.maximum(found, values.max(axis=0)).mean() / samples)


SCORE = Score("LogME", lambda probed: logme(probed.features, probed.labels), place=1)
