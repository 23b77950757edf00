"""Principal axes of feature vectors, and class indicators along them."""

import numpy as np

# Directions with less than this share of the largest variance are rounding errors.
RANK_TOLERANCE = 1e-10


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """For `features` = U diag(σ) Vᵀ, (N, D) of rank r: σ² ascending (r,), singular vectors, and whether N < D.

    The vectors are U (N, r) if N < D and V (D, r) otherwise: those of the smaller Gram matrix.
    """
    samples, width = features.shape
    wide = samples < width
    variances, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    kept = variances > max(RANK_TOLERANCE * variances[-1], np.finfo(np.float64).tiny)
    return variances[kept], vectors[:, kept], wide


def unit_scale(features: np.ndarray) -> np.ndarray:
    """The standard deviation of each of the features (N, D), by which they are standardised; 1 of a constant one."""
    scale: np.ndarray = features.std(axis=0, dtype=np.float64)
    # The standard deviation of a constant feature is a rounding error, not 0.
    scale[scale <= 1e-6 * np.abs(features).max(axis=0)] = 1.0
    return scale


def projected(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For `features` = U diag(σ) Vᵀ: σ² (r,) and Uᵀ `targets` (r, K)."""
    variances, vectors, wide = principal_axes(features)
    if wide:
        return variances, vectors.T @ targets
    return variances, vectors.T @ (features.T @ targets) / np.sqrt(variances)[:, None]


def indicators(labels: np.ndarray) -> np.ndarray:
    """float64 (N, K): 1 where a sample belongs to a class, for the K classes that occur in `labels`."""
    numbers = np.unique(labels, return_inverse=True)[1]
    return np.asarray(np.eye(int(numbers.max()) + 1)[numbers])
