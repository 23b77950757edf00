"""Linear heads for numbers, fitted to frozen features: one component of partial least squares, and ridge regression."""

import numpy as np

from headstart.data.folds import stratified_folds
from headstart.features.heads import FittedHead, LinearHead, few_threads, judged_folds
from headstart.features.principal import principal_axes

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
    with few_threads(features):
        mean, scale, centred = _standardised(features)
        variances, vectors, wide = principal_axes(centred)
        lengths = np.sqrt(variances)
        left, axes = (vectors, centred.T @ vectors / lengths) if wide else (centred @ vectors / lengths, vectors)
        offset = float(labels.mean())
        projected = left.T @ (labels - offset)
        penalties = (float(variances.mean()) if len(variances) else 1.0) * _PENALTIES
        held_out = [_left_out(left, variances, labels - offset, penalty, repeated) for penalty in penalties]
        truth = [labels[fold] - offset for fold in repeated]
        errors = [sum(float(np.sum((t - f) ** 2)) for t, f in zip(truth, found, strict=True)) for found in held_out]
        # Of equals the strongest, which comes last.
        best = len(errors) - 1 - int(np.argmin(errors[::-1]))
        coefficients = lengths * projected / (variances + penalties[best])
    weight = (axes @ coefficients / scale)[None]
    head = LinearHead(weight.astype(np.float32), (offset - weight @ mean).astype(np.float32))
    return _fitted(head, "ridge", folds, [found + offset for found in held_out[best][: len(folds)]])


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
        found.append(_first_component(features[kept], labels[kept]).logits(features[fold])[:, 0])
    return _fitted(_first_component(features, labels), "first component", folds, found)


def _first_component(features: np.ndarray, labels: np.ndarray) -> LinearHead:
    mean, scale, centred = _standardised(features)
    direction = centred.T @ (labels - labels.mean())
    scores = centred @ direction
    slope = float(scores @ (labels - labels.mean())) / (float(scores @ scores) or 1.0)
    weight = (slope * direction / scale)[None]
    return LinearHead(weight.astype(np.float32), (labels.mean() - weight @ mean).astype(np.float32))


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features' mean and scale (D,), and (features - mean) / scale (N, D)."""
    features = np.asarray(features, dtype=np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # The standard deviation of a constant feature is a rounding error, not 0.
    scale[scale <= 1e-6 * np.abs(features).max(axis=0)] = 1.0
    return mean, scale, (features - mean) / scale


def _left_out(
    left: np.ndarray, variances: np.ndarray, centred: np.ndarray, penalty: float, folds: list[np.ndarray]
) -> list[np.ndarray]:
    """For each fold, what the fit without it predicts for its samples, less the mean of all labels."""
    shrunk = left * (variances / (variances + penalty))
    residuals = centred - shrunk @ (left.T @ centred)
    found = []
    for fold in folds:
        hat = 1 / len(left) + shrunk[fold] @ left[fold].T
        found.append(centred[fold] - np.linalg.solve(np.eye(len(fold)) - hat, residuals[fold]))
    return found


def _fitted(head: LinearHead, kind: str, folds: list[np.ndarray], found: list[np.ndarray]) -> FittedHead:
    if not folds:
        return FittedHead(head, kind, np.empty(0, dtype=np.int64), np.empty((0, 1)))
    held_out = np.concatenate(folds)
    order = np.argsort(held_out)
    return FittedHead(head, kind, held_out[order], np.concatenate(found)[order][:, None])
