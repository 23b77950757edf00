import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import LeaveOneOut
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from headstart.data.folds import stratified_folds
from headstart.features import heads
from headstart.features.heads import (
    _RIDGE_PENALTIES,
    LinearHead,
    best_head,
    class_means,
    cross_validated_hits,
    nearest_class_mean,
    ridge,
)
from headstart.metrics.calibration import smoothed_losses
from headstart.models.architectures.convnet import convnet

# NearestCentroid also takes standard deviations, which some pixels and single samples do not have.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::RuntimeWarning:sklearn")

FEATURES, LABELS = load_digits(return_X_y=True)
FEATURES = FEATURES.astype(np.float32)


def some(count, classes, start=0):
    """The features and labels of `count` digits that are below `classes`."""
    chosen = start + np.flatnonzero(LABELS[start:] < classes)[:count]
    return FEATURES[chosen], LABELS[chosen]


def balanced(count, classes):
    """The features and labels of `count` digits of each class below `classes`."""
    chosen = np.concatenate([np.flatnonzero(k == LABELS)[:count] for k in range(classes)])
    return FEATURES[chosen], LABELS[chosen]


def softmax(logits):
    return torch.softmax(torch.from_numpy(np.asarray(logits)).double(), dim=1).numpy()


def accuracy(head, features, labels):
    return float((head.logits(features).argmax(1) == labels).mean())


# Nearest class mean.


@pytest.mark.parametrize("classes", [2, 10])
def test_the_nearest_class_mean_is_the_nearest_centroid(classes):
    features, labels = some(60, classes)
    head = nearest_class_mean(features, labels, classes)
    others, _ = some(300, classes, start=500)
    expected = NearestCentroid().fit(features, labels).predict(others)
    assert head.logits(others).argmax(1).tolist() == expected.tolist()


def test_one_sample_a_class_is_its_own_mean():
    labels = np.arange(10)
    features = np.stack([FEATURES[k == LABELS][0] for k in labels])
    head = nearest_class_mean(features, labels, 10)
    assert head.logits(features).argmax(1).tolist() == labels.tolist()
    expected = NearestCentroid().fit(features, labels).predict(FEATURES[500:800])
    assert head.logits(FEATURES[500:800]).argmax(1).tolist() == expected.tolist()


def test_means_that_are_all_the_same_say_nothing_and_break_nothing():
    head = nearest_class_mean(np.ones((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), 2)
    assert softmax(head.logits(np.ones((1, 3), dtype=np.float32))) == pytest.approx(np.full((1, 2), 0.5))


def test_probabilities_are_the_softmax_of_scaled_squared_distances():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [6.0, 4.0], [6.0, 6.0]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    # The means are (1, 0) and (6, 5); the mean squared distance per dimension is (1 + 1 + 1 + 1) / 8.
    query = np.array([[3.9, 2.0]], dtype=np.float32)
    distances = np.array([[(2.9**2 + 4), (2.1**2 + 9)]]) / (2 * 0.5)
    head = nearest_class_mean(features, labels, 2)
    assert softmax(head.logits(query)) == pytest.approx(softmax(-distances), rel=1e-4)


# Ridge.


def test_ridge_takes_the_penalty_that_leaving_each_sample_out_finds_best():
    """Against scikit-learn, which fits every penalty anew without each sample."""
    features, labels = balanced(6, 4)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    targets = np.eye(4)[labels]
    unit = float(np.mean([s**2 for s in np.linalg.svd(scaled, compute_uv=False) if s > 1e-6]))
    errors = []
    for penalty in unit * _RIDGE_PENALTIES:
        residuals = [
            targets[out] - Ridge(alpha=penalty).fit(scaled[kept], targets[kept]).predict(scaled[out])
            for kept, out in LeaveOneOut().split(scaled)
        ]
        errors.append(np.sum(np.square(residuals)))
    best = Ridge(alpha=unit * _RIDGE_PENALTIES[int(np.argmin(errors))]).fit(scaled, targets)
    others, _ = some(200, 4, start=700)
    scores = best.predict(StandardScaler().fit(features.astype(np.float64)).transform(others))
    logits = ridge(features, labels, 4).logits(others)
    assert logits.argmax(1).tolist() == scores.argmax(1).tolist()
    # The logits are the scores, scaled.
    assert np.corrcoef(logits.ravel(), scores.ravel())[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("samples", "width"), [(120, 8), (40, 64)])
def test_of_more_classes_than_axes_ridge_has_the_errors_of_its_residuals(samples, width):
    """Without a product with the classes for each λ."""
    draw = np.random.default_rng(samples)
    labels = np.concatenate([np.arange(60), draw.integers(60, size=samples - 60)]) if samples > 60 else np.arange(40)
    classes = int(labels.max()) + 1
    features = draw.normal(size=(len(labels), width)) + np.eye(classes, width)[labels]
    axes = heads.Axes.of(features, labels, classes)
    roots, targets = np.sqrt(axes.weights), np.eye(classes)[labels]
    means = np.average(targets, axis=0, weights=axes.weights)
    projected = axes.left.T @ (roots[:, None] * (targets - means))
    shrinkage = axes.variances / (axes.variances + np.array([[0.1], [10.0], [1000.0]]))

    np.testing.assert_allclose(heads._sums_by_class(axes, labels, means), projected, atol=1e-10)
    found = heads._squared_residuals(axes.left, projected, shrinkage, roots, labels, means)
    for shrunk, squares in zip(shrinkage, found, strict=True):
        residuals = targets - means - axes.left @ (shrunk[:, None] * projected) / roots[:, None]
        np.testing.assert_allclose(squares, np.square(residuals).sum(axis=1), atol=1e-10)


def test_ridge_predicts_the_same_where_its_scores_are_not_calibrated():
    features, labels = some(300, 10)
    calibrated, plain = (ridge(features, labels, 10, calibrated=asked) for asked in (True, False))
    says = plain.weight != 0
    ratio = calibrated.weight[says] / plain.weight[says]
    assert ratio.std() < 1e-4 < ratio.mean() - 1
    assert (calibrated.logits(FEATURES).argmax(1) == plain.logits(FEATURES).argmax(1)).all()


def test_ridge_does_not_forget_a_rare_class():
    common, rare = FEATURES[LABELS == 3][:150], FEATURES[LABELS == 8][:3]
    features, labels = np.vstack([common, rare]), np.repeat([0, 1], [150, 3])
    others = FEATURES[LABELS == 8][50:]
    for penalty in (1, 10, 100, 1000):
        unweighted = Ridge(alpha=penalty).fit(features, np.eye(2)[labels]).predict(others).argmax(1)
        assert (unweighted == 1).mean() < 0.5
    assert accuracy(ridge(features, labels, 2), others, 1) > 0.7


def test_ridge_has_probabilities_that_say_how_often_it_is_right():
    features, labels = balanced(20, 10)
    others, truth = some(900, 10, start=800)
    probabilities = softmax(ridge(features, labels, 10).logits(others))
    assert probabilities.max(axis=1).mean() == pytest.approx((probabilities.argmax(1) == truth).mean(), abs=0.1)


@pytest.mark.parametrize("count", [1, 2])
def test_few_samples_and_constant_features_are_no_obstacle(count):
    features, labels = balanced(count, 3)
    features = np.hstack([features, np.full((len(features), 2), 1e6, dtype=np.float32)])
    for head in (ridge(features, labels, 3), logistic(features, labels, 3, 1.0)):
        assert np.isfinite(head.weight).all()
        assert head.logits(features).argmax(1).tolist() == labels.tolist()


@pytest.mark.parametrize("penalty", [1e-3, 30.0])
@pytest.mark.parametrize("width", [64, 20])
def test_a_fold_has_the_scores_of_ridge_without_it(penalty, width):
    features, labels = some(50, 4)
    axes = heads.Axes.of(features[:, :width], labels, 4)
    fold = np.arange(0, 50, 5)
    rest, coordinates = np.setdiff1d(np.arange(50), fold), axes.points[:, :-1]
    reference = Ridge(alpha=penalty).fit(coordinates[rest], np.eye(4)[labels[rest]], sample_weight=axes.weights[rest])
    (found,) = heads.left_out(axes, np.eye(4)[labels], penalty, [fold])
    assert found == pytest.approx(reference.predict(coordinates[fold]), abs=1e-6)


# Logistic regression.


def logistic(features, labels, classes, penalty):
    axes = heads.Axes.of(features, labels, classes)
    return heads._logistic_head(axes, labels, penalty, np.zeros((1, classes, len(axes.variances) + 1)))


@pytest.mark.parametrize("penalty", [100.0, 1.0])
def test_logistic_regression_is_scikit_learns(penalty):
    features, labels = balanced(12, 5)
    others, _ = some(200, 5, start=600)
    scaler = StandardScaler().fit(features.astype(np.float64))
    reference = LogisticRegression(C=1 / penalty, max_iter=2000, tol=1e-8).fit(scaler.transform(features), labels)
    expected = reference.predict_proba(scaler.transform(others))
    assert softmax(logistic(features, labels, 5, penalty).logits(others)) == pytest.approx(expected, abs=5e-3)


def test_fits_that_are_searched_for_together_are_those_of_each_alone():
    features, labels = balanced(12, 5)
    axes = heads.Axes.of(features, labels, 5)
    kept = np.ones((3, len(labels)), dtype=bool)
    kept[1, ::4], kept[2, 1::3] = False, False
    points = axes.points
    found = heads._logistic(axes, labels, 1.0, kept, np.zeros((3, 5, points.shape[1])), 1e-8)
    for optimum, fit in zip(found, kept, strict=True):
        reference = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(points[fit, :-1], labels[fit])
        expected = reference.predict_proba(points[:, :-1])
        assert softmax(points @ optimum.T) == pytest.approx(expected, abs=5e-3)


# The best of them.


def test_the_best_head_has_the_least_log_loss_on_samples_that_its_folds_held_out():
    features, labels = balanced(30, 10)
    fitted = best_head(features, labels, classes=10)
    assert fitted.held_out.tolist() == list(range(300))
    assert fitted.kind in ("nearest_class_mean", "ridge", "logistic")
    reached = smoothed_losses(fitted.logits, labels).mean()
    assert reached <= smoothed_losses(class_means(features, labels, 10).logits, labels).mean()
    # As far from certainty on new samples as on those that were held out, and not as on those that it was fitted to.
    others, truth = some(900, 10, start=800)
    on_others = smoothed_losses(fitted.head.logits(others), truth).mean()
    assert smoothed_losses(fitted.head.logits(features), labels).mean() < reached < 2 * on_others


def test_held_out_logits_are_those_of_a_fit_without_the_fold():
    features, labels = balanced(10, 3)
    fitted = class_means(features, labels, 3)
    train, fold = next(stratified_folds(labels, seed=0))
    expected = nearest_class_mean(features[train], labels[train], 3).logits(features[fold])
    assert np.array_equal(fitted.logits[np.searchsorted(fitted.held_out, fold)], expected)
    assert fitted.head.weight.tobytes() == nearest_class_mean(features, labels, 3).weight.tobytes()


def test_of_many_samples_one_part_is_held_out_and_every_class_is_in_it(monkeypatch):
    monkeypatch.setattr(heads, "_MOST_FOR_FOLDS", 100)
    features, labels = balanced(40, 10)
    fitted = best_head(features, labels, classes=10)
    assert len(fitted.held_out) == 80
    assert set(labels[fitted.held_out]) == set(range(10))


def test_where_every_class_has_one_sample_the_head_is_ridge_regression_and_nothing_is_held_out():
    features, labels = balanced(1, 3)
    fitted = best_head(features, labels, classes=3)
    assert fitted.kind == "ridge"
    assert fitted.head.weight.tobytes() == ridge(features, labels, 3).weight.tobytes()
    assert len(fitted.held_out) == len(fitted.logits) == 0


def drawn(count, seed):
    """96 random rectified features of `count` digits and their labels."""
    generator = np.random.default_rng(seed)
    projection = generator.normal(size=(64, 96)).astype(np.float32)
    chosen = generator.permutation(len(LABELS))[:count]
    return np.maximum((FEATURES[chosen] - FEATURES.mean(0)) @ projection / 50, 0), LABELS[chosen]


def test_a_logistic_head_that_is_best_is_at_its_optimum():
    features, labels = drawn(400, seed=0)
    fitted = best_head(features, labels, classes=10)
    assert fitted.kind == "logistic"
    others = drawn(1000, seed=0)[0]
    optima = [logistic(features, labels, 10, penalty) for penalty in heads._LOGISTIC_PENALTIES]
    apart = [np.abs(softmax(fitted.head.logits(others)) - softmax(optimum.logits(others))).max() for optimum in optima]
    assert min(apart) < 5e-3


@pytest.mark.parametrize("count", [100, 300])
def test_what_is_held_out_is_named_as_by_the_exact_optima(count, monkeypatch):
    features, labels = drawn(count, seed=1)
    axes, folds = heads.Axes.of(features, labels, 10), [fold for _, fold in stratified_folds(labels, seed=0)]
    candidates = heads._candidates(axes, features, labels, 10, folds)
    monkeypatch.setattr(heads, "_CHOICE_TOLERANCE", 1e-8)
    for candidate, exact in zip(candidates, heads._candidates(axes, features, labels, 10, folds), strict=True):
        named, exactly = (np.concatenate(each.held_out).argmax(1) for each in (candidate, exact))
        assert (named == exactly).mean() >= 0.99


def test_a_rare_class_and_features_that_say_nothing_leave_a_head_that_is_finite():
    features, labels = some(60, 2)
    features, labels = np.vstack([features, FEATURES[LABELS == 7][:2]]), np.append(labels, [2, 2])
    for given in (features, np.ones_like(features), 1e-6 * features):
        head = best_head(given, labels, classes=3).head
        assert np.isfinite(head.weight).all()
        assert np.isfinite(head.bias).all()
    assert accuracy(head, 1e-6 * features, labels) == 1


def test_the_same_samples_give_the_same_bits():
    features, labels = balanced(15, 10)
    one, two = (best_head(features, labels, classes=10).head for _ in range(2))
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.bias.tobytes() == two.bias.tobytes()


def test_an_installed_head_makes_the_network_predict_as_it_does():
    network = convnet(classes=10, channels=1).eval()
    samples = torch.rand(6, 1, 16, 16)
    with torch.no_grad():
        features = network.features(samples).numpy()
        head = nearest_class_mean(features, np.array([0, 0, 1, 1, 2, 2]), 3)
        head.install(network)
        logits = network(samples).numpy()
    assert np.allclose(logits, head.logits(features), rtol=1e-3, atol=1e-3)
    assert network.head.weight.requires_grad
    # What training does to the network is not done to the head.
    with torch.no_grad():
        network.head.weight.zero_()
    assert np.abs(head.weight).sum() > 0


# The probe that ranks sources.


def test_the_probe_is_the_mean_of_what_each_fifth_is_predicted_by_the_rest():
    features, labels = balanced(10, 3)
    hits = cross_validated_hits(features, labels, seed=3).right
    assert len(hits) == len(labels)
    assert 0.8 < hits.mean() <= 1
    # Labels that mean nothing are predicted no better than by chance.
    shuffled = np.random.default_rng(0).permutation(labels)
    assert cross_validated_hits(features, shuffled, seed=3).right.mean() < 0.6


def test_the_probe_leaves_out_classes_with_one_sample():
    features, labels = some(40, 3)
    lonely, others = np.vstack([features, FEATURES[LABELS == 7][:1]]), np.append(labels, 7)
    expected, found = (cross_validated_hits(*each, seed=0) for each in ((features, labels), (lonely, others)))
    assert np.array_equal(found.right, expected.right)
    assert found.held_out.tolist() == list(range(len(labels)))


def test_the_probe_holds_out_samples_that_belong_together_as_one():
    """Ten copies of each of two pictures a class are as good as two pictures, of which the other one is held out."""
    features, labels = balanced(2, 3)
    copies, groups = (np.repeat(each, 10, axis=0) for each in (features, np.arange(len(labels))))
    alone = cross_validated_hits(copies, labels := np.repeat(labels, 10), seed=0)
    together = cross_validated_hits(copies, labels, seed=0, groups=groups)
    assert alone.right.all()
    assert together.right.mean() < 1
    # A class of one group is asked nothing.
    lonely = cross_validated_hits(copies, labels, seed=0, groups=np.where(labels == 0, 0, groups))
    assert lonely.held_out.tolist() == np.flatnonzero(labels != 0).tolist()


def test_the_best_head_is_chosen_on_samples_of_other_groups():
    features, labels = balanced(4, 3)
    copies, groups = np.repeat(features, 10, axis=0), np.repeat(np.arange(len(labels)), 10)
    labels = np.repeat(labels, 10)
    together, alone = (
        smoothed_losses(best_head(copies, labels, classes=3, groups=each).logits, labels).mean()
        for each in (groups, None)
    )
    # With its copies in the other folds no sample is new.
    assert alone < together


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 0]])
def test_where_samples_cannot_tell_the_probe_says_nothing(labels):
    assert len(cross_validated_hits(FEATURES[:4], np.array(labels), seed=0).right) == 0


def test_logits_are_those_of_a_linear_layer():
    head = LinearHead(np.array([[1.0, 2.0]], np.float32), np.array([3.0], np.float32))
    assert head.logits(np.array([[4.0, 5.0]], np.float32)).tolist() == [[17.0]]


def test_of_many_samples_and_classes_a_part_chooses_and_all_are_fitted(monkeypatch):
    whole = best_head(FEATURES, LABELS, classes=10)
    monkeypatch.setattr(heads, "_MOST_SCORES", 6000)
    part = best_head(FEATURES, LABELS, classes=10)
    assert len(part.held_out) == 600 < len(whole.held_out)
    assert set(LABELS[part.held_out]) == set(range(10))
    assert (part.logits.argmax(1) == LABELS[part.held_out]).mean() > 0.9
    ours, theirs = (each.head.logits(FEATURES).argmax(1) for each in (part, whole))
    assert (ours == theirs).mean() > 0.97


def test_ridges_penalty_is_found_by_a_part_of_many_samples(monkeypatch):
    whole = ridge(FEATURES, LABELS, 10)
    monkeypatch.setattr(heads, "_MOST_PRODUCTS", 0)
    monkeypatch.setattr(heads, "_MOST_FOR_FOLDS", 400)
    part = ridge(FEATURES, LABELS, 10)
    assert (part.logits(FEATURES).argmax(1) == whole.logits(FEATURES).argmax(1)).mean() > 0.99
    assert np.isfinite(part.weight).all()
