"""Linear heads for numbers, fitted to frozen features: one component of partial least squares, and ridge regression."""

import numpy as np

from headstart.data.folds import stratified_folds
from headstart.features.heads import (
    Axes,
    FittedHead,
    LinearHead,
    few_threads,
    fitted_head,
    judged_folds,
    left_out,
)

# λ of ridge regression, in units of the mean squared singular value of the standardised features.
_PENALTIES = np.logspace(-5, 3, 25)


def best_number_head(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> FittedHead:
    """Fit ridge regression, with the λ of 25 that has the least squared error in cross-validation.

    Minimises Σ_i (y_i - b - w·z_i)² + λ‖w‖² over standardised features z, with b not penalised (Hoerl and Kennard
    1970). The errors of a fold in the fit without it follow from those of the full fit and its hat matrix H, as
    (I - H_FF)⁻¹ r_F, so that one decomposition serves all λ and folds. The folds are those of `best_head`.

    Args:
        features, labels: (N, D) and float (N,), standardised numbers.
        groups: int (N,): samples of one are held out together.
    """
    folds, repeated = judged_folds(labels, groups)
    targets, offset = labels[:, None], labels.mean(keepdims=True)
    with few_threads(features):
        axes = Axes.weighted(features, np.ones(len(labels)))
        penalties = (float(axes.variances.mean()) if len(axes.variances) else 1.0) * _PENALTIES
        held_out = [list(left_out(axes, targets, penalty, repeated)) for penalty in penalties]
        truth = [targets[fold] for fold in repeated]
        errors = [sum(float(np.sum((t - f) ** 2)) for t, f in zip(truth, found, strict=True)) for found in held_out]
        # Of equals the strongest, which comes last.
        best = len(errors) - 1 - int(np.argmin(errors[::-1]))
        projected = axes.left.T @ (labels - offset)
        coefficients = np.sqrt(axes.variances) * projected / (axes.variances + penalties[best])
    head = axes.head(np.append(coefficients, offset)[None])
    return fitted_head(head, "ridge", folds, held_out[best][: len(folds)])


def first_component(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> FittedHead:
    """Fit least squares on one direction, that of the features' covariance with the labels, and cross-validate it.

    This is partial least squares with one component (Wold 1975), which chooses nothing, as the nearest class mean does
    for classes: with two of them that is the direction between their means.

    Args:
        features, labels, groups: as for `best_number_head`.
    """
    folds = [fold for _, fold in stratified_folds(labels, seed=0, groups=groups)]
    found = []
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(labels)), fold)
        found.append(_first_component(features[kept], labels[kept]).logits(features[fold]))
    return fitted_head(_first_component(features, labels), "first component", folds, found)


def _first_component(features: np.ndarray, labels: np.ndarray) -> LinearHead:
    axes, centred = Axes.weighted(features, np.ones(len(labels))), labels - labels.mean()
    # Along the axes of the standardised features, whose coordinates are all but the last, 1.
    points = axes.points[:, :-1]
    direction = points.T @ centred
    scores = points @ direction
    slope = float(scores @ centred) / (float(scores @ scores) or 1.0)
    return axes.head(np.append(slope * direction, labels.mean())[None])
