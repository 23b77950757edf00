"""NLEEP: LEEP with the components of a Gaussian mixture in place of the source's classes, so that it needs no head."""

import warnings

import numpy as np

from headstart.features.principal import RANK_TOLERANCE, principal_axes
from headstart.features.score import Score
from headstart.features.transferability.leep import leep

# The share of the features' variance that is kept, and the components per class (Li et al. 2021, section 4.1).
_ENERGY = 0.8
_COMPONENTS_PER_CLASS = 5
# With fewer samples per component the mixture would describe single samples, and all features would score perfectly.
_SAMPLES_PER_COMPONENT = 5
# Expectation-maximisation ends after so many rounds, or when a sample's mean log-likelihood grows by less; so much is
# added to variances, in units of the largest, as components may have a single sample.
_ROUNDS, _TOLERANCE, _LEAST_VARIANCE = 100, 1e-3, 1e-6
# Of hundreds of classes the mixture has no more components than this, and ends after fewer rounds, ten at least: a
# round takes time in proportion to samples, components and coordinates together.
_MOST_COMPONENTS, _MOST_PRODUCTS, _LEAST_ROUNDS = 1000, 2e10, 10


def nleep(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """LEEP over a mixture fitted to the features' first principal components, those with 80 % of their variance.

    The mixture has five components per class, or one per five samples where that is less (Li et al., "Ranking Neural
    Checkpoints", CVPR 2021), and 1000 at most. Its covariances are diagonal.

    Args:
        seed: of the mixture's start.
    """
    labels = np.asarray(labels)
    points = _coordinates(np.asarray(features, dtype=np.float64))
    components = min(_COMPONENTS_PER_CLASS * len(np.unique(labels)), len(labels) // _SAMPLES_PER_COMPONENT)
    components = min(components, _MOST_COMPONENTS)
    if components < 2 or points.shape[1] == 0:
        return leep(np.ones((len(labels), 1)), labels)
    return leep(_mixture(points, components, np.random.default_rng(seed)), labels)


def _coordinates(features: np.ndarray) -> np.ndarray:
    """The features along their first principal axes, those with 80 % of the variance, over the largest spread."""
    centred = features - features.mean(axis=0)
    variances, vectors, wide = principal_axes(centred)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    if variances.sum() <= RANK_TOLERANCE * np.square(features).sum():
        return features[:, :0]
    count = int(np.searchsorted(np.cumsum(variances) / variances.sum(), _ENERGY)) + 1
    axes = vectors[:, :count]
    coordinates = axes * np.sqrt(variances[:count]) if wide else centred @ axes
    return np.asarray(coordinates / np.sqrt(variances[0] / len(features)))


def _mixture(points: np.ndarray, components: int, random: np.random.Generator) -> np.ndarray:
    """The probabilities (N, C) of the components of a Gaussian mixture that starts from the cells of k-means++."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    starts = _spread_out(points, components, random)
    cells = np.eye(components)[(np.square(starts).sum(axis=1) - 2 * points @ starts.T).argmin(axis=1)]
    # Duplicate points may leave a cell empty.
    sizes = cells.sum(axis=0) + 10 * np.finfo(np.float64).eps
    means = cells.T @ points / sizes[:, None]
    variances = np.maximum(cells.T @ points**2 / sizes[:, None] - means**2, 0) + _LEAST_VARIANCE
    rounds = int(np.clip(_MOST_PRODUCTS // (points.size * components), _LEAST_ROUNDS, _ROUNDS))
    mixture = GaussianMixture(
        components,
        covariance_type="diag",
        tol=_TOLERANCE,
        reg_covar=_LEAST_VARIANCE,
        max_iter=rounds,
        weights_init=sizes / sizes.sum(),
        means_init=means,
        precisions_init=1 / variances,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(mixture.fit(points).predict_proba(points))


def _spread_out(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of the points, each drawn in proportion to its squared distance from those before (k-means++: Arthur and
    Vassilvitskii 2007)."""
    chosen = [points[random.integers(len(points))]]
    distances = np.square(points - chosen[0]).sum(axis=1)
    for _ in range(count - 1):
        total = distances.sum()
        # If every point is a copy of a chosen one, any is as good.
        drawn = random.choice(len(points), p=distances / total) if total > 0 else random.integers(len(points))
        chosen.append(points[drawn])
        distances = np.minimum(distances, np.square(points - points[drawn]).sum(axis=1))
    return np.stack(chosen)


SCORE = Score("NLEEP", lambda probed: nleep(probed.features, probed.labels, seed=probed.seed), place=4)
