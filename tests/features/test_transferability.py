"""The scores against what the formulas of their papers give when they are written down plainly."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from headstart.features.neighbours import neighbour_hits, repeated_classes
from headstart.features.score import SCORES, Probed
from headstart.features.transferability import nleep as module
from headstart.features.transferability.h_score import h_score
from headstart.features.transferability.leep import leep
from headstart.features.transferability.logme import logme
from headstart.features.transferability.nleep import nleep

PIXELS, DIGITS = load_digits(return_X_y=True)


def some(samples, classes, width=64, start=0):
    """Pixels of digits below `classes`, and a mixture of classes in every order."""
    chosen = start + np.flatnonzero(DIGITS[start:] < classes)[:samples]
    return PIXELS[chosen][:, 20 : 20 + width], DIGITS[chosen]


# LogME


def evidence(features, target, alpha, beta):
    """log p(y | F, α, β), term by term as the paper has it."""
    samples, width = features.shape
    matrix = alpha * np.eye(width) + beta * features.T @ features
    mean = beta * np.linalg.solve(matrix, features.T @ target)
    return (
        samples / 2 * np.log(beta)
        + width / 2 * np.log(alpha)
        - samples / 2 * np.log(2 * np.pi)
        - beta / 2 * np.sum((features @ mean - target) ** 2)
        - alpha / 2 * mean @ mean
        - np.linalg.slogdet(matrix)[1] / 2
    )


def searched(features, target):
    """The maximum of the evidence over α and β, by brute force from many starts."""

    def loss(logs):
        return -evidence(features, target, *np.exp(logs))

    starts = [(a, b) for a in (-8.0, -2.0, 4.0) for b in (-2.0, 2.0, 6.0)]
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    return -min(minimize(loss, start, method="Nelder-Mead", options=options).fun for start in starts)


@pytest.mark.parametrize(("samples", "width"), [(60, 6), (40, 12), (30, 30)])
def test_logme_is_the_mean_maximum_of_the_evidence(samples, width):
    features, labels = some(samples, 3, width)
    features = features + np.random.default_rng(0).normal(size=features.shape)
    expected = np.mean([searched(features, (labels == k).astype(float)) for k in range(3)]) / samples
    assert logme(features, labels) == pytest.approx(expected, abs=1e-6)


def test_the_evidence_of_the_paper_is_the_density_of_the_labels():
    """The formula that LogME is held to here is itself the density of N(0, 1/β I + 1/α FFᵀ)."""
    features, labels = some(20, 2, 5)
    target = (labels == 0).astype(float)
    covariance = np.eye(20) / 3 + features @ features.T / 0.7
    density = multivariate_normal(np.zeros(20), covariance).logpdf(target)
    assert evidence(features, target, 0.7, 3.0) == pytest.approx(density, rel=1e-9)


def test_logme_with_more_features_than_samples_is_no_less_than_any_evidence():
    random = np.random.default_rng(1)
    features, labels = some(25, 3, 40)
    features = features + random.normal(size=features.shape)
    best = np.mean(
        [
            max(evidence(features, (labels == k).astype(float), a, b) for a in np.logspace(-4, 6, 41)
                for b in np.logspace(-2, 6, 41))
            for k in range(3)
        ]
    ) / 25  # fmt: skip
    assert best - 1e-9 <= logme(features, labels) < best + 0.05


def test_logme_of_features_that_say_nothing_is_that_of_noise_alone():
    labels = np.arange(30) % 3
    # y ~ N(0, 1/β) with 1/β the mean square of the indicator, a third.
    assert logme(np.zeros((30, 4)), labels) == pytest.approx(-0.5 * (np.log(2 * np.pi / 3) + 1), abs=1e-9)


# H-score


def explicit_h_score(features, labels):
    centred = features - features.mean(axis=0)
    means = np.stack([centred[labels == label].mean(axis=0) for label in labels])
    covariance, shrinkage = ledoit_wolf(features)
    return np.trace(np.linalg.inv(covariance) @ ((1 - shrinkage) * means.T @ means / len(labels)))


@pytest.mark.parametrize(("samples", "width"), [(200, 10), (50, 30), (20, 40)])
def test_the_h_score_is_the_trace_over_explicit_covariances(samples, width):
    features, labels = some(samples, 4, width)
    assert h_score(features, labels) == pytest.approx(explicit_h_score(features, labels), abs=1e-6)


def test_the_h_score_of_one_feature_is_the_share_of_its_variance_between_classes():
    features, labels = np.array([[0.0], [1.0], [4.0], [5.0]]), np.array([0, 0, 1, 1])
    # Means ±2 around 2.5, so 4 of the variance 4.25.
    assert h_score(features, labels) == pytest.approx(4 / 4.25, abs=1e-12)


# LEEP


def looped_leep(probabilities, labels):
    samples, codes = probabilities.shape
    classes = sorted(set(labels.tolist()))
    total = 0.0
    for i in range(samples):
        expected = 0.0
        for z in range(codes):
            marginal = sum(probabilities[j, z] for j in range(samples))
            joint = sum(probabilities[j, z] for j in range(samples) if labels[j] == labels[i])
            expected += joint / marginal * probabilities[i, z]
        total += np.log(expected)
    assert len(classes) > 1
    return total / samples


def test_leep_is_the_papers_double_sum():
    random = np.random.default_rng(2)
    probabilities, labels = softmax(random.normal(size=(30, 5)), axis=1), random.integers(0, 3, 30)
    assert leep(probabilities, labels) == pytest.approx(looped_leep(probabilities, labels), abs=1e-6)


def test_leep_by_hand():
    probabilities, labels = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), np.array([0, 0, 1])
    # P(0 | z=0) = 1, P(0 | z=1) = 0.5 / 1.5.
    expected = (np.log(1) + np.log(0.5 + 0.5 / 3) + np.log(1 / 1.5)) / 3
    assert leep(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_a_source_class_that_nothing_is_of_does_not_count():
    random = np.random.default_rng(3)
    probabilities, labels = softmax(random.normal(size=(12, 3)), axis=1), np.arange(12) % 2
    padded = np.hstack([probabilities, np.zeros((12, 1))])
    assert leep(padded, labels) == leep(probabilities, labels)


def responsibilities(points, shares):
    """(N, C): those of the mixture of diagonal Gaussians whose moments are weighted by `shares` (N, C)."""
    sizes = shares.sum(axis=0)
    means = shares.T @ points / sizes[:, None]
    variances = shares.T @ points**2 / sizes[:, None] - means**2 + 1e-6
    joint = np.stack(
        [size * multivariate_normal(mean, variance).pdf(points)
         for size, mean, variance in zip(sizes, means, variances, strict=True)], axis=1
    )  # fmt: skip
    return joint / joint.sum(axis=1, keepdims=True)


def test_nleep_of_many_classes_has_no_more_components_and_rounds_than_end_in_seconds(monkeypatch):
    features, labels = load_digits(return_X_y=True)
    whole = nleep(features, labels)
    monkeypatch.setattr(module, "_MOST_COMPONENTS", 30)
    fewer = nleep(features, labels)
    monkeypatch.setattr(module, "_MOST_PRODUCTS", 0)
    shorter = nleep(features, labels)
    assert len({whole, fewer, shorter}) == 3
    assert whole == pytest.approx(fewer, abs=0.3)
    assert shorter == pytest.approx(fewer, abs=0.05)


def test_nleep_is_leep_over_the_components_of_a_mixture_of_principal_components(monkeypatch):
    features, labels = some(240, 3)
    coordinates = PCA(0.8).fit_transform(features)
    coordinates = coordinates / coordinates[:, 0].std()
    # Run to the end, where a plain round of expectation and maximisation changes nothing.
    monkeypatch.setattr(module, "_TOLERANCE", 1e-12)
    monkeypatch.setattr(module, "_ROUNDS", 2000)
    shares = module._mixture(coordinates, 15, np.random.default_rng(5))
    assert responsibilities(coordinates, shares) == pytest.approx(shares, abs=1e-4)
    expected = looped_leep(responsibilities(coordinates, shares), labels)
    assert nleep(features, labels, seed=5) == pytest.approx(expected, abs=1e-4)


def test_the_mixture_is_no_less_likely_than_from_another_start():
    features, labels = some(400, 5)
    coordinates = module._coordinates(features)
    mixture = GaussianMixture(25, covariance_type="diag", random_state=0).fit(coordinates)
    theirs = leep(mixture.predict_proba(coordinates), labels)
    assert nleep(features, labels) == pytest.approx(theirs, abs=0.15)
    assert nleep(features, labels) == nleep(features, labels)


# The registry


def test_every_score_is_a_member_that_reads_what_a_source_makes_of_the_target():
    features, labels = some(60, 3)
    said = softmax(features[:, :4], axis=1)
    probed = Probed(features, labels, said, seed=1)
    assert {name: score.of(probed) for name, score in SCORES.items()} == {
        "h_score": h_score(features, labels), "leep": leep(said, labels), "logme": logme(features, labels),
        "nleep": nleep(features, labels, seed=1),
    }  # fmt: skip
    assert SCORES["leep"].of(Probed(features, labels, None, seed=1)) is None


# Nearest neighbours


def test_neighbours_of_the_same_group_do_not_vote():
    """Each sample has a copy, which would name its class."""
    generator = np.random.default_rng(0)
    features, labels = np.repeat(generator.normal(size=(20, 8)), 2, axis=0), np.repeat(np.arange(20) % 2, 2)
    assert neighbour_hits(features, labels, neighbours=1).all()
    told = neighbour_hits(features, labels, neighbours=1, groups=np.repeat(np.arange(20), 2))
    assert np.array_equal(told[::2], neighbour_hits(features[::2], labels[::2], neighbours=1))


def test_neighbours_are_those_that_leave_one_out_finds():
    features, labels = some(90, 4)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = []
    for i in range(len(labels)):
        others = np.arange(len(labels)) != i
        # Distances between directions order samples as their cosines do.
        nearest = KNeighborsClassifier(5).fit(directions[others], labels[others]).kneighbors(directions[i : i + 1])
        votes = np.bincount(labels[others][nearest[1][0]])
        expected.append(votes.argmax() == labels[i] if (votes == votes.max()).sum() == 1 else None)
    hits = neighbour_hits(features, labels)
    told = [(hit, want) for hit, want in zip(hits.tolist(), expected, strict=True) if want is not None]
    assert len(told) > 80
    assert all(hit == want for hit, want in told)


def test_of_equally_many_votes_the_nearer_win():
    features = np.array([[1.0, 0.0], [1.0, 0.01], [1.0, 0.2], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1])
    # Two neighbours each: 0 sees 1 (its own) and 2; 3 sees 2 (its own) and 1.
    assert neighbour_hits(features, labels, neighbours=2).tolist() == [True, True, False, True]


def test_chunks_of_rows_change_nothing(monkeypatch):
    features, labels = some(50, 3)
    whole = neighbour_hits(features, labels)
    monkeypatch.setattr("headstart.features.neighbours._CHUNK", 350)
    assert neighbour_hits(features, labels).tolist() == whole.tolist()


# Whatever comes

FEATURES = {
    "constant": np.ones((12, 5)),
    "zero": np.zeros((12, 5)),
    "copies": np.repeat(np.arange(12.0)[:, None], 5, axis=1),
    "two values": np.tile(np.array([[0.0], [1.0]]), (6, 5)),
    "tiny": 1e-30 * np.random.default_rng(0).normal(size=(12, 5)),
    "huge": 1e15 * np.random.default_rng(0).normal(size=(12, 5)),
    "wide": np.random.default_rng(0).normal(size=(12, 300)).astype(np.float32),
}
LABELS = {
    "two classes": np.arange(12) % 2,
    "numbers missing": 3 * (np.arange(12) % 4) + 2,
    "lonely": np.array([0] * 6 + [1] * 5 + [9]),
    "all lonely": np.arange(12),
    "one class": np.zeros(12, dtype=np.int64),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES.keys())
@pytest.mark.filterwarnings("error")
def test_a_score_is_a_finite_number_whatever_comes(features, labels):
    scores = [logme(features, labels), h_score(features, labels), nleep(features, labels)]
    assert np.isfinite(scores).all()
    assert scores[1] >= 0
    assert scores[2] <= 0
    assert len(neighbour_hits(features, labels)) == len(repeated_classes(features, labels)[1])


def test_scores_do_not_depend_on_how_classes_are_numbered():
    features, labels = some(60, 4)
    renamed = np.array([7, 2, 11, 0])[labels]
    for score in (logme, h_score, nleep):
        assert score(features, renamed) == pytest.approx(score(features, labels), abs=1e-9)
    assert neighbour_hits(features, renamed).mean() == neighbour_hits(features, labels).mean()


def test_every_score_prefers_pixels_to_noise():
    features, labels = some(200, 10)
    noise = np.random.default_rng(0).normal(size=features.shape)
    for score in (logme, h_score, nleep, lambda f, y: neighbour_hits(f, y).mean()):
        assert score(features, labels) > score(noise, labels)
