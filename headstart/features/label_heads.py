"""Linear heads for several labels a sample, fitted to frozen features: each label is a question of its own."""

from collections.abc import Sequence

import numpy as np

from headstart.data.folds import stratified_folds
from headstart.features.heads import Axes, FittedHead, LinearHead, few_threads, fitted_head, judged_folds
from headstart.metrics.calibration import sigmoid_losses, sigmoid_temperature

# λ of logistic regression, strongest first: each search starts from the previous optimum.
_PENALTIES = (1000.0, 100.0, 10.0, 1.0)
_TOLERANCE = 1e-8


def best_label_head(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> FittedHead:
    """Fit the head with the least log loss in cross-validation: the means of `label_means`, or logistic regression of
    each label with one of four λ.

    Logistic regression minimises Σ_ik log(1 + exp(-s_ik (w_k·z_i + b_k))) + λ/2 ‖W‖² over standardised features z and
    the labels that are known, with s_ik = 1 where sample i has label k and -1 where not, and b not penalised. Each
    candidate is judged at the temperature that suits it. The folds, of which each has some of every label, are those of
    `best_head`.

    Args:
        features, labels: (N, D) and int8 (N, K): 1, 0, or -1 for not known.
        groups: int (N,): samples of one are held out together.
    """
    folds, repeated = judged_folds(labels, groups)
    if not folds:
        return label_means(features, labels, groups)
    truth = labels[np.concatenate(repeated)]
    kept = np.ones((1 + len(repeated), len(labels)), dtype=bool)
    for fit, fold in zip(kept[1:], repeated, strict=True):
        fit[fold] = False
    means = [_means(features[fit], labels[fit]) for fit in kept]
    held_out = [fit.logits(features[fold]) for fit, fold in zip(means[1:], repeated, strict=True)]
    candidates = [("label means", means[0], held_out)]
    with few_threads(features):
        axes = Axes.weighted(features, np.ones(len(labels)))
        points = axes.points
        optima = np.zeros((len(kept), labels.shape[1], points.shape[1]))
        for penalty in _PENALTIES:
            optima = _logistic(points, labels, penalty, kept, optima)
            held_out = [points[fold] @ fit.T for fit, fold in zip(optima[1:], repeated, strict=True)]
            candidates.append(("logistic", axes.head(optima[0]), held_out))

    def loss(logits: Sequence[np.ndarray]) -> float:
        together = np.concatenate(logits)
        return float(sigmoid_losses(together, truth, sigmoid_temperature(together, truth)).mean())

    name, head, held_out = min(candidates, key=lambda each: loss(each[2]))
    return fitted_head(head, name, folds, held_out[: len(folds)])


def label_means(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> FittedHead:
    """Fit, for each label, the direction between the mean of the samples that have it and that of those without, which
    chooses nothing, and cross-validate it.

    This is `nearest_class_mean` of two classes, whose logit has the label's frequency as its prior.

    Args:
        features, labels, groups: as for `best_label_head`.
    """
    folds = list(stratified_folds(labels, seed=0, groups=groups))
    logits = [_means(features[train], labels[train]).logits(features[fold]) for train, fold in folds]
    return fitted_head(_means(features, labels), "label means", [fold for _, fold in folds], logits)


def _means(features: np.ndarray, labels: np.ndarray) -> LinearHead:
    axes = Axes.weighted(features, np.ones(len(labels)))
    # Along the axes of the standardised features, whose coordinates are all but the last, 1.
    points = axes.points[:, :-1]
    coefficients = np.zeros((labels.shape[1], points.shape[1] + 1))
    for row, marks in zip(coefficients, labels.T, strict=True):
        has, lacks = points[marks == 1], points[marks == 0]
        row[-1] = np.log((len(has) + 0.5) / (len(lacks) + 0.5))
        if len(has) and len(lacks):
            own, other = has.mean(axis=0), lacks.mean(axis=0)
            within = np.concatenate([has - own, lacks - other])
            spread = float(np.mean(np.sum(within**2, axis=1))) or 1.0
            row[:-1] = (own - other) / spread
            row[-1] -= row[:-1] @ (own + other) / 2
    return axes.head(coefficients)


def _logistic(
    points: np.ndarray, labels: np.ndarray, penalty: float, kept: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """The optimum of each fit, (F, K, r + 1), searched from `start`; row f of `kept`, bool (F, N), marks the samples of
    fit f. The fits are independent, so that one search over the sum of their losses finds all."""
    from scipy.optimize import minimize
    from scipy.special import expit

    fits, count, width = start.shape
    signs = np.where(labels == 1, 1.0, -1.0).T
    counted = kept[:, None, :] * (labels >= 0).T
    # The loss's curvature along an axis is at most a quarter of its variance; these units make it nearly isotropic.
    squares = np.sum(points**2, axis=0)
    units = 1 / np.sqrt(np.append(squares[:-1] / 8 + penalty, squares[-1] / 8))
    inputs = points * units
    penalties = np.append(penalty * units[:-1] ** 2, 0.0)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        found = flat.reshape(fits * count, width)
        margins = signs * (found @ inputs.T).reshape(fits, count, -1)
        value = float(np.sum(counted * np.logaddexp(0.0, -margins)))
        errors = -(counted * signs * expit(-margins)).reshape(fits * count, -1)
        shrinkage = penalties * found
        return value + 0.5 * float(np.vdot(shrinkage, found)), (errors @ inputs + shrinkage).ravel()

    options = {"maxiter": 500, "maxcor": 5, "ftol": _TOLERANCE, "gtol": 1e-4}
    result = minimize(loss, (start / units).ravel(), jac=True, method="L-BFGS-B", options=options)
    found: np.ndarray = result.x.reshape(start.shape) * units
    return found
