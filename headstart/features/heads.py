"""Linear heads fitted to frozen features: nearest class mean, ridge and logistic regression.

Ridge and logistic regression standardise features by the training samples' mean and standard deviation, and return
weights for unstandardised features. Equal input and number of threads give equal bits.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from headstart.data.folds import in_repeated_classes, repeated_folds, stratified_folds
from headstart.data.subsets import spread_out, with_every_class
from headstart.features.neighbours import repeated_classes
from headstart.features.principal import principal_axes, unit_scale
from headstart.metrics.calibration import fit_temperature, smoothed_losses
from headstart.models.network import Network

# λ of ridge regression, in units of the mean squared singular value of the standardised features.
_RIDGE_PENALTIES = np.logspace(-5, 2, 22)
# λ of logistic regression, strongest first. A search starts from the previous optimum, moved on by this share of the
# step that the one before it made: the path of optima is smooth in log λ, and so it takes half of the iterations (with
# convnet and ResNet-18 on digits; a share of 1 takes a tenth more, none twice as many).
_LOGISTIC_PENALTIES, _ONWARD = (1000.0, 100.0, 10.0, 1.0), 1.3
# Ridge regression's scores are about in [0, 1]; this factor gives them about the spread of logits.
_RIDGE_SCALE = 10.0
# Relative changes of logistic regression's loss at which the search stops: the precision of float32 products, and for
# the choice of λ, one at which predictions no longer change.
_TOLERANCE, _CHOICE_TOLERANCE = 1e-8, 1e-5
# Number of values below which a second thread costs more than it saves.
_SMALL = 2**22
# Samples above which five folds take seconds.
_MOST_FOR_FOLDS = 2000
# Of hundreds of classes, a part of the samples chooses: products for the leave-one-out scores of ridge's 22 λ, about
# ten seconds of one core, and scores, samples times classes, in a search for logistic regression's λ.
_MOST_PRODUCTS, _MOST_SCORES = 2e11, 2**23


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier on features: `weight` (K, D) and `bias` (K,), float32."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Map features (N, D) to logits (N, K)."""
        return features @ self.weight.T + self.bias

    def install(self, network: Network) -> None:
        """Install this as the head of `network`."""
        classes, width = self.weight.shape
        head = nn.Linear(width, classes)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight))
            head.bias.copy_(torch.from_numpy(self.bias))
        network.head = head.to(next(network.parameters()).device)


def nearest_class_mean(features: np.ndarray, labels: np.ndarray, classes: int) -> LinearHead:
    """Fit the nearest class mean as a linear head: softmax of −‖f − μ_k‖² / 2σ².

    (Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", 2017, §2.3.) The ‖f‖² that all classes
    share cancels in the softmax, which leaves a linear function. σ² is the mean squared distance to the class mean per
    dimension; it scales the probabilities and changes no prediction.

    Args:
        features, labels: (N, D) and int (N,), with every class present.
    """
    means = np.stack([features[labels == k].mean(axis=0, dtype=np.float64) for k in range(classes)])
    spread = float(np.mean((features - means[labels]) ** 2))
    if spread < 1e-12:
        # With one sample per class there is no spread within classes; the spread between their means replaces it.
        spread = float(means.var(axis=0).mean()) or 1.0
    return LinearHead(
        weight=(means / spread).astype(np.float32),
        bias=(-0.5 * (means**2).sum(axis=1) / spread).astype(np.float32),
    )


def ridge(
    features: np.ndarray, labels: np.ndarray, classes: int, *, calibrated: bool = True, standardised: bool = False
) -> LinearHead:
    """Fit ridge regression to the classes' indicators, with λ chosen by exact leave-one-out.

    Minimises Σ_i w_i ‖y_i − b − W z_i‖² + λ‖W‖² over standardised features z, where y_i is the indicator of the label,
    w_i the inverse frequency of its class, and b is not penalised (Hoerl and Kennard 1970). λ is the one of 22 with the
    least Σ_i w_i ‖e_i‖², where e_i is the residual of sample i in the fit without it: e_i = r_i / (1 − h_ii), with r_i
    the residual of the full fit and h_ii the diagonal of its hat matrix (Allen 1974; Golub, Heath and Wahba 1979), so
    one decomposition serves all of them. Only samples of classes with several samples count; if there are none, λ is
    the mean squared singular value. Where that would take minutes, as with a thousand classes, a part of the samples
    counts, at least 2000. The scores are scaled to logits by the temperature that fits the leave-one-out scores.

    Args:
        features, labels: (N, D) and int (N,), with every class present.
        calibrated: whether that temperature is fitted, on which no prediction depends; of a thousand classes it takes
            half of the time.
        standardised: whether the features have one unit already, as coordinates along principal axes have.
    """
    axes = Axes.of(features, labels, classes, standardised=standardised)
    return _ridge(axes, labels, classes, calibrated=calibrated)[0]


@dataclass(frozen=True)
class FittedHead:
    """A head fitted to all samples, its kind, and its cross-validation."""

    head: LinearHead
    kind: str
    held_out: np.ndarray
    """int (M,), rising: the positions of the samples that a fold held out"""
    logits: np.ndarray
    """(M, K), their logits in the fit without their fold"""

    def cooled(self, temperature: float) -> "FittedHead":
        """The same head with all logits divided by `temperature`."""
        head = LinearHead(*((each / temperature).astype(np.float32) for each in (self.head.weight, self.head.bias)))
        return replace(self, head=head, logits=self.logits / temperature)


def class_means(features: np.ndarray, labels: np.ndarray, classes: int, groups: np.ndarray | None = None) -> FittedHead:
    """Fit the nearest class mean and cross-validate it.

    Args:
        features, labels: (N, D) and int (N,), with every class present.
        groups: int (N,): samples of one are held out together.
    """
    folds = list(stratified_folds(labels, seed=0, groups=groups))
    logits = [
        nearest_class_mean(features[train], labels[train], classes).logits(features[fold]) for train, fold in folds
    ]
    head = nearest_class_mean(features, labels, classes)
    return fitted_head(head, "nearest_class_mean", [fold for _, fold in folds], logits)


def best_head(
    features: np.ndarray, labels: np.ndarray, *, classes: int, groups: np.ndarray | None = None
) -> FittedHead:
    """Fit the head with the least smoothed log loss in cross-validation.

    The heads are nearest_class_mean, ridge, and logistic with four penalties; of equals the simpler one, which comes
    first. Up to 2000 samples are judged by stratified 5-fold cross-validation, repeated four times up to 100 samples
    and twice up to 200; of more, one fold of at most 2000 is held out. In the folds, features are standardised by all
    samples, and ridge's λ is that of all. Where every class has one sample, nothing can be held out, and ridge is
    taken. Where samples times classes are more than eight million, a part of the samples chooses, every class among
    them, and the chosen head is fitted to all. The log loss chooses better than accuracy where labels are few:
    docs/studies/label-budget.md.

    Args:
        features, labels: (N, D) and int (N,), with every class present.
        groups: int (N,): samples of one are held out together.
    """
    if len(labels) * classes > _MOST_SCORES and len(labels) > 2 * classes:
        part = with_every_class(labels, spread_out(labels, max(2 * classes, _MOST_SCORES // classes)))
        return _chosen_on(part, features, labels, classes, None if groups is None else groups[part])
    folds, repeated = judged_folds(labels, groups)
    if not folds:
        return fitted_head(ridge(features, labels, classes), "ridge", [], [])
    best, axes = _best_of(features, labels, classes, repeated)
    with few_threads(features):
        head = _logistic_head(axes, labels, *best.near) if best.near else best.head
    # One fit for each sample, as it will be used, and not the mean of several.
    return fitted_head(head, best.name, folds, best.held_out[: len(folds)])


def _chosen_on(
    part: np.ndarray, features: np.ndarray, labels: np.ndarray, classes: int, groups: np.ndarray | None
) -> FittedHead:
    """Choose the head by the samples at `part`, whose groups are `groups`, and fit it to all."""
    folds, repeated = judged_folds(labels[part], groups)
    if not folds:
        return fitted_head(ridge(features, labels, classes), "ridge", [], [])
    best, _ = _best_of(features[part], labels[part], classes, repeated)
    if best.near:
        axes = Axes.of(features, labels, classes)
        head = _logistic_head(axes, labels, best.near[0], np.zeros((1, classes, len(axes.variances) + 1)))
    else:
        head = (nearest_class_mean if best.name == "nearest_class_mean" else ridge)(features, labels, classes)
    return fitted_head(head, best.name, [part[fold] for fold in folds], best.held_out[: len(folds)])


def _best_of(
    features: np.ndarray, labels: np.ndarray, classes: int, repeated: Sequence[np.ndarray]
) -> "tuple[_Candidate, Axes]":
    """The candidate with the least smoothed log loss on the folds, and the axes of all samples."""
    truth = labels[np.concatenate(repeated)]
    with few_threads(features):
        axes = Axes.of(features, labels, classes)
        candidates = _candidates(axes, features, labels, classes, repeated)
        return min(candidates, key=lambda each: smoothed_losses(np.concatenate(each.held_out), truth).mean()), axes


def fitted_head(head: LinearHead, kind: str, folds: Sequence[np.ndarray], logits: Sequence[np.ndarray]) -> FittedHead:
    """A head with the logits of its folds' samples, of which there may be none, in the samples' order."""
    if not folds:
        classes = len(head.bias)
        return FittedHead(head, kind, np.empty(0, dtype=np.int64), np.empty((0, classes), dtype=np.float32))
    held_out = np.concatenate(folds)
    order = np.argsort(held_out)
    return FittedHead(head, kind, held_out[order], np.concatenate(logits)[order])


def judged_folds(labels: np.ndarray, groups: np.ndarray | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The held-out positions of each fold: those of the first cross-validation, and of all repeats with it."""
    if len(labels) > _MOST_FOR_FOLDS:
        first = itertools.islice(stratified_folds(labels, seed=0, groups=groups), 1)
        few = [fold[spread_out(labels[fold], _MOST_FOR_FOLDS)] for _, fold in first]
        return few, few
    folds, repeated = repeated_folds(labels, seed=0, groups=groups)
    return [fold for _, fold in folds], [fold for _, fold in repeated]


@dataclass(frozen=True)
class Hits:
    """The samples that a fold held out, int (M,), rising, and whether a probe predicts their classes: bool (M,)."""

    held_out: np.ndarray
    right: np.ndarray


def cross_validated_hits(
    features: np.ndarray, labels: np.ndarray, *, seed: int, groups: np.ndarray | None = None
) -> Hits:
    """Cross-validate a ridge probe.

    Classes with one sample, or of one group, are left out; with fewer than two other classes the result is empty. Equal
    labels, groups and seed give equal folds, whatever the features.

    Args:
        features, labels: (N, D) and int (N,).
        groups: int (N,): samples of one are held out together.
    """
    kept = in_repeated_classes(labels, groups)
    features, labels = repeated_classes(features, labels, groups)
    hits, asked = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    if len(labels) == 0:
        return Hits(np.empty(0, dtype=np.int64), hits)
    with few_threads(features):
        for train, held_out in stratified_folds(labels, seed=seed, groups=None if groups is None else groups[kept]):
            head = ridge(features[train], labels[train], int(labels.max()) + 1, calibrated=False)
            hits[held_out] = head.logits(features[held_out]).argmax(1) == labels[held_out]
            asked[held_out] = True
    return Hits(np.flatnonzero(kept)[asked], hits[asked])


@contextmanager
def few_threads(features: np.ndarray) -> Iterator[None]:
    """Limit small products to one thread: two would wait for each other and take four times as long."""
    if features.size > _SMALL:
        yield
        return
    with _blas().limit(limits=1):
        yield


@cache
def _blas() -> ThreadpoolController:
    """Return the controller of NumPy's and SciPy's BLAS; finding the libraries takes as long as fitting a
    small head."""
    import scipy.linalg  # noqa: F401 - loads its own

    return ThreadpoolController().select(user_api="blas")


@dataclass(frozen=True)
class _Candidate:
    """A head considered by `best_head`."""

    name: str
    head: LinearHead
    held_out: list[np.ndarray]
    """for each fold, the logits (m, K) of its samples in the fit without them"""
    near: tuple[float, np.ndarray] | None = None
    """for logistic regression: its λ and a start near its optimum, (1, K, r + 1)"""


def _candidates(
    axes: "Axes", features: np.ndarray, labels: np.ndarray, classes: int, folds: Sequence[np.ndarray]
) -> list[_Candidate]:
    """Fit every head, simpler ones first. `folds` holds the positions of each fold's held-out samples."""
    # The samples of each fit: all, then all but those of each fold.
    kept = np.ones((1 + len(folds), len(labels)), dtype=bool)
    for fit, fold in zip(kept[1:], folds, strict=True):
        fit[fold] = False

    means = [nearest_class_mean(features[fit], labels[fit], classes) for fit in kept]
    held_out = [fit.logits(features[fold]) for fit, fold in zip(means[1:], folds, strict=True)]
    candidates = [_Candidate("nearest_class_mean", means[0], held_out)]

    head, penalty, scale = _ridge(axes, labels, classes)
    held_out = [scale * scores for scores in left_out(axes, np.eye(classes)[labels], penalty, folds)]
    candidates.append(_Candidate("ridge", head, held_out))

    points, optima = axes.points, np.zeros((len(kept), classes, len(axes.variances) + 1))
    before = optima
    for penalty in _LOGISTIC_PENALTIES:
        start = optima + _ONWARD * (optima - before)
        before, optima = optima, _logistic(axes, labels, penalty, kept, start, _CHOICE_TOLERANCE)
        held_out = [points[fold] @ fit.T for fit, fold in zip(optima[1:], folds, strict=True)]
        candidates.append(_Candidate("logistic", axes.head(optima[0]), held_out, (penalty, optima[:1])))
    return candidates


@dataclass(frozen=True)
class Axes:
    """Training samples along the principal axes of their standardised features, with equal weight for each class.

    With Z the standardised features minus their weighted mean and w the samples' weights, √w Z = U diag(s) Vᵀ. The
    optimum of a penalised linear model is a combination of these axes, so at most as many are needed as there are
    samples.
    """

    mean: np.ndarray
    scale: np.ndarray
    """(D,): z = (x − mean) / scale"""
    weights: np.ndarray
    """(N,), w; their sum is N"""
    left: np.ndarray
    """(N, r), U"""
    variances: np.ndarray
    """(r,), s²"""
    axes: np.ndarray
    """(D, r), V"""

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, classes: int, *, standardised: bool = False) -> "Axes":
        """Those of samples that count as much as their class has others, int (N,)."""
        weights = len(labels) / (classes * np.bincount(labels, minlength=classes)[labels])
        return cls.weighted(features, weights, standardised=standardised)

    @classmethod
    def weighted(cls, features: np.ndarray, weights: np.ndarray, *, standardised: bool = False) -> "Axes":
        """Those of samples with these weights (N,), whose sum is N; `standardised` features keep their scale."""
        features = np.asarray(features, dtype=np.float64)
        mean = np.average(features, axis=0, weights=weights)
        scale = np.ones(features.shape[1]) if standardised else unit_scale(features)
        scaled = np.sqrt(weights)[:, None] * ((features - mean) / scale)
        variances, vectors, wide = principal_axes(scaled)
        lengths = np.sqrt(variances)
        left, axes = (vectors, scaled.T @ vectors / lengths) if wide else (scaled @ vectors / lengths, vectors)
        return cls(mean, scale, weights, left, variances, axes)

    @cached_property
    def points(self) -> np.ndarray:
        """The samples' coordinates along V, and 1 for the bias: (N, r + 1)."""
        coordinates = self.left * np.sqrt(self.variances / self.weights[:, None])
        return np.hstack([coordinates, np.ones((len(coordinates), 1))])

    def head(self, coefficients: np.ndarray) -> LinearHead:
        """Return the head whose logits are `points` · `coefficients`ᵀ, with coefficients (K, r + 1)."""
        weight = coefficients[:, :-1] @ self.axes.T / self.scale
        return LinearHead(weight.astype(np.float32), (coefficients[:, -1] - weight @ self.mean).astype(np.float32))


def _ridge(axes: Axes, labels: np.ndarray, classes: int, *, calibrated: bool = True) -> tuple[LinearHead, float, float]:
    """Return the ridge head, its λ and the factor from its scores to its logits, which is 1 if not `calibrated`."""
    weights, roots = axes.weights[:, None], np.sqrt(axes.weights)[:, None]
    many = classes > len(axes.variances)
    means = np.bincount(labels, axes.weights, classes) / axes.weights.sum()
    projected = (
        _sums_by_class(axes, labels, means) if many else axes.left.T @ (roots * (np.eye(classes)[labels] - means))
    )
    # If a class's only sample is left out, its prediction is wrong for every λ.
    tells = np.bincount(labels, minlength=classes)[labels] > 1
    whole, left = weights.sum(), axes.left
    if (judged := _judged_rows(labels, projected.size)) is not None:
        weights, roots, tells, left, labels = (each[judged] for each in (weights, roots, tells, left, labels))
    unit = float(axes.variances.mean()) if len(axes.variances) else 1.0
    penalties = unit * (_RIDGE_PENALTIES if tells.any() else np.ones(1))
    shrinkage = axes.variances / (axes.variances + penalties[:, None])
    kept = 1 - (weights / whole + left**2 @ shrinkage.T)

    def errors(number: int) -> np.ndarray:
        """The leave-one-out errors (N, K) with one of the λ."""
        # In place: of a thousand classes each array has as many values as all features.
        found = left @ (shrinkage[number][:, None] * projected)
        found /= roots
        found += means
        np.negative(found, out=found)
        found[np.arange(len(labels)), labels] += 1
        found /= kept[:, number][:, None]
        return found

    if many:
        residuals = _squared_residuals(left, projected, shrinkage, roots[:, 0], labels, means)
        squares = (each / kept[:, number] ** 2 for number, each in enumerate(residuals))
    else:
        squares = (np.einsum("nk,nk->n", each, each) for each in map(errors, range(len(penalties))))
    totals = [float(np.sum((weights[:, 0] * each)[tells])) for each in squares]
    best = int(np.argmin(np.nan_to_num(totals, nan=np.inf)))
    scale = 1.0
    if calibrated:
        scores = np.eye(classes)[labels] - errors(best)
        scale = _RIDGE_SCALE / fit_temperature(_RIDGE_SCALE * scores[tells], labels[tells])
    coefficients = np.sqrt(axes.variances)[:, None] * projected / (axes.variances + penalties[best])[:, None]
    return axes.head(scale * np.vstack([coefficients, means]).T), float(penalties[best]), scale


def _sums_by_class(axes: Axes, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Uᵀ √w (y − means), (r, K), without the indicators y (N, K), by the sums of each class's samples."""
    order = np.argsort(labels, kind="stable")
    rooted = axes.left * np.sqrt(axes.weights)[:, None]
    starts = np.searchsorted(labels[order], np.arange(len(means)))
    return np.add.reduceat(rooted[order], starts, axis=0).T - rooted.sum(axis=0)[:, None] * means


def _squared_residuals(
    left: np.ndarray,
    projected: np.ndarray,
    shrinkage: np.ndarray,
    roots: np.ndarray,
    labels: np.ndarray,
    means: np.ndarray,
) -> Iterator[np.ndarray]:
    """Yield, for each λ's row of `shrinkage` (L, r), the squared lengths (N,) of the residuals t_i − f_i / √w_i.

    t_i is sample i's indicator less the means, and f_i = Pᵀ (s u_i) with P (r, K) `projected` and u_i a row of `left`.
    With more classes than axes, ‖t‖² − 2 t·f + ‖f‖² asks for no product with P: t·f is one with P t_i, the same for
    every λ, and ‖f‖ is ‖R (s u_i)‖, with R the triangle of Pᵀ = Q R.
    """
    from scipy.linalg import qr
    from scipy.linalg.blas import dtrmm

    triangle = qr(projected.T, mode="r", check_finite=False)[0][: len(projected)]
    own = (projected[:, labels] - (projected @ means)[:, None]).T
    lengths = 1 - 2 * means[labels] + means @ means
    for shrunk in shrinkage:
        scaled = left * shrunk
        products = np.einsum("nr,nr->n", scaled, own) / roots
        turned = dtrmm(1.0, triangle, scaled.T, overwrite_b=1)
        yield lengths - 2 * products + np.einsum("rn,rn->n", turned, turned) / roots**2


def _judged_rows(labels: np.ndarray, products: int) -> np.ndarray | None:
    """The positions of the samples that judge λ, if each takes so many products for each; None: all of them."""
    most = max(_MOST_FOR_FOLDS, int(_MOST_PRODUCTS // (2 * len(_RIDGE_PENALTIES) * max(1, products))))
    return spread_out(labels, most) if len(labels) > most else None


def left_out(axes: Axes, targets: np.ndarray, penalty: float, folds: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield, for each fold, ridge regression's scores of its M samples in the fit without them, (M, K), by their
    `targets` (N, K).

    With r the residuals of the full fit and H its hat matrix, both scaled by the square roots of the samples' weights,
    the residuals without fold F are (I − H_FF)⁻¹ r_F.
    """
    weights, roots = axes.weights, np.sqrt(axes.weights)[:, None]
    shrunk = axes.left * (axes.variances / (axes.variances + penalty))
    centred = roots * (targets - np.average(targets, axis=0, weights=weights))
    residuals = centred - shrunk @ (axes.left.T @ centred)
    for fold in folds:
        hat = roots[fold] @ roots[fold].T / weights.sum() + shrunk[fold] @ axes.left[fold].T
        yield targets[fold] - np.linalg.solve(np.eye(len(fold)) - hat, residuals[fold]) / roots[fold]


def _logistic_head(axes: Axes, labels: np.ndarray, penalty: float, start: np.ndarray) -> LinearHead:
    """Multinomial logistic regression (Cox 1958) on all samples, by L-BFGS (Liu and Nocedal 1989) from `start`.

    Minimises Σ_i −log softmax(W z_i + b)_{y_i} + λ/2 ‖W‖² over standardised features z, with λ = `penalty` and b not
    penalised; `start` is (1, K, r + 1).
    """
    every = np.ones((1, len(labels)), dtype=bool)
    return axes.head(_logistic(axes, labels, penalty, every, start, _TOLERANCE)[0])


def _logistic(
    axes: Axes, labels: np.ndarray, penalty: float, kept: np.ndarray, start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Return the optimum of each fit, (F, K, r + 1), as coefficients of the axes' `points`, searched from `start`.

    Row f of `kept`, bool (F, N), marks the samples of fit f. The fits are independent, so one search over the sum of
    their losses finds all optima, in fewer and larger products.
    """
    from scipy.optimize import minimize

    fits, classes, _ = start.shape
    samples = len(labels)
    # The loss's curvature along an axis is about the axis's variance at uniform probabilities; these units make it
    # nearly isotropic.
    units = 1 / np.sqrt(np.append(axes.variances / classes + penalty, samples / classes))
    inputs = (axes.points * units).astype(np.float32)
    penalties = np.append(penalty * units[:-1] ** 2, 0.0)
    own = (slice(None), labels, np.arange(samples))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        found = flat.reshape(fits * classes, -1)
        logits = (found.astype(np.float32) @ inputs.T).reshape(fits, classes, samples)
        logits -= logits.max(axis=1, keepdims=True)
        own_logits = logits[own]
        errors = np.exp(logits, out=logits)
        sums = errors.sum(axis=1)
        losses = kept * (np.log(sums) - own_logits)
        errors *= (kept / sums)[:, None]
        errors[own] -= kept
        shrinkage = penalties * found
        value = losses.sum(dtype=np.float64) + 0.5 * np.vdot(shrinkage, found)
        gradient = errors.reshape(fits * classes, samples) @ inputs + shrinkage
        return float(value), gradient.ravel()

    options = {"maxiter": 500, "maxcor": 5, "ftol": tolerance, "gtol": 1e-4}
    result = minimize(loss, (start / units).ravel(), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(start.shape) * units
