"""Ridge regression that is fitted many times to parts of the same samples, whose features are thousands."""

from dataclasses import dataclass

import numpy as np

from headstart.features.heads import LinearHead, ridge
from headstart.features.principal import principal_axes, unit_scale

# Axes that are kept, and samples that they are computed from, at most. On all 4,836 descriptors of 8,000 pictures of
# 100 classes a ridge takes 28 s, here under 2, and either has 99.6% of test pictures right; of MNIST, 94.7% and 94.5%.
_AXES, _SEEN = 1024, 2000


@dataclass(frozen=True, eq=False)
class Narrowed:
    """Standardised features along the axes on which they vary most.

    Axes are those of up to 2000 of the samples, without their labels; the ridge shrinks what varies less anyway.
    """

    mean: np.ndarray
    scale: np.ndarray
    """(D,): z = (x − mean) / scale"""
    axes: np.ndarray
    """float32 (D, r), with r at most 1024"""
    points: np.ndarray
    """float32 (N, r): all samples' coordinates"""

    @classmethod
    def of(cls, features: np.ndarray) -> "Narrowed":
        """Those of features (N, D)."""
        mean, scale = features.mean(axis=0, dtype=np.float64), unit_scale(features)
        standardised = ((features - mean) / scale).astype(np.float32)
        seen = np.unique(np.linspace(0, len(features) - 1, _SEEN).astype(int))
        part = standardised[seen].astype(np.float64)
        variances, vectors, wide = principal_axes(part)
        variances, vectors = variances[-_AXES:], vectors[:, -_AXES:]
        axes = (part.T @ vectors / np.sqrt(variances) if wide else vectors).astype(np.float32)
        return cls(mean, scale, axes, standardised @ axes)

    def ridge(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> LinearHead:
        """The ridge head on features (D,) that the samples at `rows`, int (n,), with `labels`, int (n,), make; its
        scores are not calibrated."""
        head = ridge(self.points[rows], labels, classes, calibrated=False, standardised=True)
        weight = head.weight @ self.axes.T / self.scale
        return LinearHead(weight.astype(np.float32), (head.bias - weight @ self.mean).astype(np.float32))
