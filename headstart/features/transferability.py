"""Transferability scores: what frozen features tell about a fine-tuning that nobody has done.

Every function reads the features of target samples (N, D) and their labels, int (N,), of which any numbers may be
missing; more is better in all of them. Samples may be fewer than features, features may be constant, copies of each
other or all 0, and classes may have a single sample: a score is a finite number whatever comes.
"""

import numpy as np

# Directions with less than this share of the largest variance are rounding errors.
_RANK_TOLERANCE = 1e-10
# λ of LogME's ridge regressions, in units of the largest squared singular value: beyond either end nothing changes.
_PENALTIES = np.logspace(-12, 12, 121)
_SECTIONS = 40
_GOLDEN = (np.sqrt(5) - 1) / 2
# The share of the features' variance that NLEEP keeps, and its components a class (Li et al. 2021, section 4.1).
_ENERGY = 0.8
_COMPONENTS_PER_CLASS = 5
# With fewer samples a component NLEEP's mixture would describe samples, and every features were perfect.
_SAMPLES_PER_COMPONENT = 5
# Expectation-maximisation ends after so many rounds, or when a sample's mean log-likelihood grows by less; so much is
# added to variances, in units of the largest, as components may have a single sample.
_ROUNDS, _TOLERANCE, _LEAST_VARIANCE = 100, 1e-3, 1e-6
# Similarities that are held at once.
_CHUNK = 2**24


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """The log of the maximum evidence of linear models of the labels, by sample and class.

    For each class, y (N,) is its indicator and y ~ N(F w, 1/β), w ~ N(0, 1/α), so that
    log p(y | F, α, β) = N/2 log β + D/2 log α − N/2 log 2π − β/2 ‖F m − y‖² − α/2 ‖m‖² − 1/2 log |A|, with
    A = α I + β FᵀF and m = β A⁻¹ Fᵀy; LogME is the mean over classes of its maximum over α and β, divided by N (You et
    al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021).

    Instead of the paper's fixed-point iteration, which may stop at a local maximum, the maximum is found in one
    dimension: with λ = α/β, F = U diag(σ) Vᵀ and z = Uᵀy, the best β is N / (Σ z_i² λ/(λ+σ_i²) + ‖y‖² − ‖z‖²), and
    the evidence −N/2 (log 2π/β + 1) − 1/2 Σ log(1 + σ_i²/λ). One decomposition serves all classes. Where labels are
    an exact function of fewer features than samples, the evidence has no maximum; λ stops at 10⁻¹² σ_max².
    """
    features, targets = np.asarray(features, dtype=np.float64), _indicators(labels)
    samples = len(features)
    variances, projected = _principal(features, targets)
    squares = projected.T**2
    # With as many directions as samples nothing is left over but rounding.
    rest = np.maximum(targets.sum(axis=0) - squares.sum(axis=1), 0) * (len(variances) < samples)

    def evidence(penalty: np.ndarray) -> np.ndarray:
        """The evidence (K, L) at λ (K, L)."""
        ratios = variances / penalty[:, :, None]
        noise = ((squares[:, None, :] / (1 + ratios)).sum(axis=2) + rest[:, None]) / samples
        return np.asarray(-0.5 * samples * (np.log(2 * np.pi * noise) + 1) - 0.5 * np.log1p(ratios).sum(axis=2))

    grid = np.log(_PENALTIES * (variances.max(initial=0.0) or 1.0))
    # One λ at a time: a block of all of them would be classes × penalties × features.
    values = np.stack([evidence(np.full((targets.shape[1], 1), np.exp(at)))[:, 0] for at in grid])
    best = values.argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        at_left, at_right = evidence(np.exp(np.stack([left, right], axis=1))).T
        low, high = np.where(at_left < at_right, left, low), np.where(at_left < at_right, high, right)
    found = evidence(np.exp((low + high) / 2)[:, None])[:, 0]
    return float(np.maximum(found, values.max(axis=0)).mean() / samples)


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """How far class means lie apart in units of the features' spread: tr(Σ_α⁻¹ (1 − α) Σ_z), 0 to classes − 1.

    Σ_α = (1 − α) Σ + α tr(Σ)/D I is the covariance of the features, shrunk by the α of Ledoit and Wolf ("A
    well-conditioned estimator for large-dimensional covariance matrices", 2004), and Σ_z that of the class means, each
    as often as its class has samples (Bao et al., "An Information-Theoretic Approach to Transferability in Task
    Transfer Learning", 2019; shrunk: Ibrahim et al., "Newer is not always better", 2021). Both divide by N.
    """
    features = np.asarray(features, dtype=np.float64)
    samples, width = features.shape
    centred = features - features.mean(axis=0)
    targets = _indicators(labels)
    # √n_k/N times the class means, along the axes of the features' covariance.
    variances, projected = _principal(centred, targets / np.sqrt(targets.sum(axis=0)))
    variances = variances / samples
    total = float(variances.sum())
    if total <= _RANK_TOLERANCE * float(np.square(features).mean(axis=0).sum()):
        return 0.0
    shrinkage = _ledoit_wolf(centred, variances)
    # The class means' part along an axis is that of the indicators on its left singular vector, times σ.
    between = variances * np.square(projected).sum(axis=1)
    spread = (1 - shrinkage) * variances + shrinkage * total / width
    return float((1 - shrinkage) * (between / spread).sum())


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean log-likelihood of the labels by way of the source's classes: at most 0.

    LEEP = 1/N Σ_i log Σ_z P(y_i | z) θ_z(x_i), where θ(x_i), `probabilities` (N, Z), is what the source says of sample
    i and P(y | z) = Σ_{i: y_i = y} θ_z(x_i) / Σ_i θ_z(x_i) (Nguyen et al., "LEEP: A New Measure to Evaluate
    Transferability of Learned Representations", ICML 2020).
    """
    probabilities, targets = np.asarray(probabilities, dtype=np.float64), _indicators(labels)
    joint = targets.T @ probabilities
    marginal = joint.sum(axis=0)
    # A class of the source that no sample is anything of has no say.
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = ((probabilities @ conditional.T) * targets).sum(axis=1)
    return float(np.log(np.clip(expected, np.finfo(np.float64).tiny, 1)).mean())


def nleep(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> float:
    """LEEP with the components of a Gaussian mixture in place of the source's classes, so that it needs no head.

    The mixture is fitted to the features' first principal components, those with 80 % of their variance, and has five
    components a class, or one for each five samples where that is less (Li et al., "Ranking Neural Checkpoints", CVPR
    2021). Its covariances are diagonal.

    Args:
        seed: of the mixture's start.
    """
    labels = np.asarray(labels)
    coordinates = _coordinates(np.asarray(features, dtype=np.float64))
    components = min(_COMPONENTS_PER_CLASS * len(np.unique(labels)), len(labels) // _SAMPLES_PER_COMPONENT)
    if components < 2 or coordinates.shape[1] == 0:
        return leep(np.ones((len(labels), 1)), labels)
    return leep(_mixture(coordinates, components, np.random.default_rng(seed)), labels)


def neighbour_hits(features: np.ndarray, labels: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """Whether each sample's nearest neighbours among the others name its class: bool (M,).

    Near is a large cosine; most votes win, and of equally many those that are nearer (Cover and Hart, "Nearest neighbor
    pattern classification", 1967; leave-one-out). Classes with one sample are left out; with fewer than two others
    nothing is left.
    """
    features, labels = told_apart(features, labels)
    samples, classes = len(labels), int(labels.max(initial=-1)) + 1
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = min(neighbours, samples - 1)
    hits = np.zeros(samples, dtype=bool)
    rows = max(1, _CHUNK // max(samples, 1))
    for start in range(0, samples, rows):
        part = np.arange(start, min(start + rows, samples))
        cosines = directions[part] @ directions.T
        cosines[np.arange(len(part)), part] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        votes = np.zeros((len(part), classes))
        # All cosines together weigh less than one vote.
        weights = 1 + np.take_along_axis(cosines, nearest, axis=1) / (4 * count)
        np.add.at(votes, (np.arange(len(part))[:, None], labels[nearest]), weights)
        hits[part] = votes.argmax(axis=1) == labels[part]
    return hits


def told_apart(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples of classes with two or more, and these classes' numbers from 0 on; none where that is one class."""
    labels = np.asarray(labels)
    kept = np.isin(labels, np.flatnonzero(np.bincount(labels) >= 2))
    numbers = np.unique(labels[kept], return_inverse=True)[1]
    if len(numbers) == 0 or numbers.max() < 1:
        return features[:0], np.empty(0, dtype=np.int64)
    return features[kept], numbers


def _indicators(labels: np.ndarray) -> np.ndarray:
    """float64 (N, K): 1 where a sample is of a class, for the K classes that there are."""
    numbers = np.unique(labels, return_inverse=True)[1]
    return np.asarray(np.eye(int(numbers.max()) + 1)[numbers])


def _principal(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With `features` = U diag(σ) Vᵀ: σ² (r,) and Uᵀ `targets` (r, K), by the smaller of the two Gram matrices."""
    samples, width = features.shape
    wide = samples < width
    variances, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    kept = variances > max(_RANK_TOLERANCE * variances[-1], np.finfo(np.float64).tiny)
    variances, vectors = variances[kept], vectors[:, kept]
    if wide:
        return variances, vectors.T @ targets
    return variances, vectors.T @ (features.T @ targets) / np.sqrt(variances)[:, None]


def _ledoit_wolf(centred: np.ndarray, variances: np.ndarray) -> float:
    """The share of the identity in Ledoit and Wolf's estimate, in [0, 1]; `variances` are those along the axes."""
    samples, width = centred.shape
    square = float(np.square(variances).sum())
    noise = (float(np.square(np.square(centred).sum(axis=1)).sum()) / samples - square) / samples
    distance = square - float(variances.sum()) ** 2 / width
    return 0.0 if distance <= 0 else min(max(noise, 0.0), distance) / distance


def _coordinates(features: np.ndarray) -> np.ndarray:
    """The features along their first principal axes, those with 80 % of the variance, over the largest spread."""
    centred = features - features.mean(axis=0)
    samples, width = centred.shape
    wide = samples < width
    variances, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    if variances.sum() <= _RANK_TOLERANCE * np.square(features).sum():
        return features[:, :0]
    count = int(np.searchsorted(np.cumsum(variances) / variances.sum(), _ENERGY)) + 1
    axes = vectors[:, :count]
    coordinates = axes * np.sqrt(variances[:count]) if wide else centred @ axes
    return np.asarray(coordinates / np.sqrt(variances[0] / samples))


def _mixture(points: np.ndarray, components: int, random: np.random.Generator) -> np.ndarray:
    """The probabilities (N, C) of a Gaussian mixture's components, diagonal covariances, by expectation-maximisation
    (Dempster, Laird and Rubin 1977) from the cells of k-means++ (Arthur and Vassilvitskii 2007)."""
    from scipy.special import logsumexp

    starts = _spread_out(points, components, random)
    shares = np.eye(components)[_distances(points, starts, np.ones_like(starts)).argmin(axis=1)]
    before = -np.inf
    for _ in range(_ROUNDS):
        sizes = shares.sum(axis=0) + 10 * np.finfo(np.float64).eps
        means = shares.T @ points / sizes[:, None]
        variances = np.maximum(shares.T @ points**2 / sizes[:, None] - means**2, 0) + _LEAST_VARIANCE
        constants = np.log(sizes / len(points)) - 0.5 * np.log(2 * np.pi * variances).sum(axis=1)
        joint = constants - 0.5 * _distances(points, means, variances)
        likelihood = logsumexp(joint, axis=1, keepdims=True)
        shares = np.exp(joint - likelihood)
        if abs(likelihood.mean() - before) < _TOLERANCE:
            break
        before = likelihood.mean()
    return np.asarray(shares)


def _distances(points: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """(N, C): Σ_d (x_d − m_d)² / v_d, written out so that it is products of matrices."""
    inverse = 1 / variances
    return np.asarray(points**2 @ inverse.T - 2 * points @ (means * inverse).T + (means**2 * inverse).sum(axis=1))


def _spread_out(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of the points, each drawn in proportion to its squared distance from those before."""
    chosen = [points[random.integers(len(points))]]
    distances = np.square(points - chosen[0]).sum(axis=1)
    for _ in range(count - 1):
        total = distances.sum()
        # Copies of what is chosen are as good as any where there is nothing else.
        drawn = random.choice(len(points), p=distances / total) if total > 0 else random.integers(len(points))
        chosen.append(points[drawn])
        distances = np.minimum(distances, np.square(points - points[drawn]).sum(axis=1))
    return np.stack(chosen)
