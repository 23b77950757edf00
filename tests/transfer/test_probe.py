import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headstart.models.convnet import convnet
from headstart.transfer.probe import cross_validated_probe, logistic_probe, nearest_prototype

# NearestCentroid also takes standard deviations, which some pixels and single samples do not have.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::RuntimeWarning:sklearn")

FEATURES, LABELS = load_digits(return_X_y=True)
FEATURES = FEATURES.astype(np.float32)


def some(count, classes, start=0):
    """The features and labels of `count` digits that are below `classes`."""
    chosen = start + np.flatnonzero(LABELS[start:] < classes)[:count]
    return FEATURES[chosen], LABELS[chosen]


def softmax(logits):
    return torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()


@pytest.mark.parametrize("classes", [2, 10])
def test_the_nearest_prototype_is_the_nearest_centroid(classes):
    features, labels = some(60, classes)
    head = nearest_prototype(features, labels, classes)
    others, _ = some(300, classes, start=500)
    expected = NearestCentroid().fit(features, labels).predict(others)
    assert head.logits(others).argmax(1).tolist() == expected.tolist()


def test_one_sample_a_class_is_its_own_prototype():
    labels = np.arange(10)
    features = np.stack([FEATURES[k == LABELS][0] for k in labels])
    head = nearest_prototype(features, labels, 10)
    assert head.logits(features).argmax(1).tolist() == labels.tolist()
    expected = NearestCentroid().fit(features, labels).predict(FEATURES[500:800])
    assert head.logits(FEATURES[500:800]).argmax(1).tolist() == expected.tolist()


def test_prototypes_that_are_all_the_same_say_nothing_and_break_nothing():
    head = nearest_prototype(np.ones((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), 2)
    assert softmax(head.logits(np.ones((1, 3), dtype=np.float32))) == pytest.approx(np.full((1, 2), 0.5))


def test_prototype_probabilities_are_the_softmax_of_scaled_squared_distances():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [6.0, 4.0], [6.0, 6.0]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    # The prototypes are (1, 0) and (6, 5); the mean squared distance per dimension is (1 + 1 + 1 + 1) / 8.
    query = np.array([[4.0, 2.0]], dtype=np.float32)
    distances = np.array([[(9 + 4), (4 + 9)]]) / (2 * 0.5)
    expected = softmax(-distances)
    assert softmax(nearest_prototype(features, labels, 2).logits(query)) == pytest.approx(expected)
    query = np.array([[3.9, 2.0]], dtype=np.float32)
    distances = np.array([[(2.9**2 + 4), (2.1**2 + 9)]]) / (2 * 0.5)
    assert softmax(nearest_prototype(features, labels, 2).logits(query)) == pytest.approx(softmax(-distances), rel=1e-4)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_logistic_probe_is_the_scikit_learn_pipeline_that_is_best_on_validation(classes):
    features, labels = some(40, classes)
    val_features, val_labels = some(40, classes, start=600)
    others, _ = some(40, classes, start=900)
    pipelines = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(features, labels)
        for strength in (0.001, 0.01, 0.1, 1.0, 10.0)
    ]
    best = pipelines[int(np.argmax([pipeline.score(val_features, val_labels) for pipeline in pipelines]))]
    head = logistic_probe(features, labels, val_features, val_labels, classes=classes, metric="accuracy")
    assert head.logits(others).argmax(1).tolist() == best.predict(others).tolist()
    assert softmax(head.logits(others)) == pytest.approx(best.predict_proba(others), abs=1e-3)


def test_validation_decides_how_strongly_the_probe_is_held():
    features, labels = some(100, 5)
    clean = logistic_probe(features, labels, features, labels, classes=5, metric="accuracy")
    # Where the validation labels mean nothing but one class, the most cautious probe is as good as any and comes first.
    silent = logistic_probe(
        features, labels, np.zeros((4, 64), np.float32), np.full(4, 9), classes=10, metric="accuracy"
    )
    assert np.abs(silent.weight).sum() < np.abs(clean.weight).sum()


def test_an_installed_head_makes_the_network_predict_as_the_probe_does():
    network = convnet(classes=10, channels=1).eval()
    samples = torch.rand(6, 1, 16, 16)
    with torch.no_grad():
        features = network.features(samples).numpy()
        head = nearest_prototype(features, np.array([0, 0, 1, 1, 2, 2]), 3)
        head.install(network)
        logits = network(samples).numpy()
    assert np.allclose(logits, head.logits(features), rtol=1e-3, atol=1e-3)
    assert network.head.weight.requires_grad
    # What training does to the network is not done to the probe.
    with torch.no_grad():
        network.head.weight.zero_()
    assert np.abs(head.weight).sum() > 0


@pytest.mark.parametrize("classes", [2, 5])
def test_the_cross_validated_probe_is_scikit_learns_cross_validation(classes):
    features, labels = some(50, classes)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(pipeline, features, labels, cv=folds)
    mean, error = cross_validated_probe(features, labels, seed=3)
    assert mean == pytest.approx(expected.mean())
    assert error == pytest.approx(expected.std(ddof=1) / np.sqrt(5))


def test_the_cross_validated_probe_leaves_out_classes_with_one_sample():
    features, labels = some(40, 3)
    lonely, others = np.vstack([features, FEATURES[LABELS == 7][:1]]), np.append(labels, 7)
    assert cross_validated_probe(lonely, others, seed=0) == cross_validated_probe(features, labels, seed=0)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 0]])
def test_where_samples_cannot_tell_the_score_is_nothing(labels):
    assert cross_validated_probe(FEATURES[:4], np.array(labels), seed=0) == (0.0, 0.0)
