import numpy as np
import pytest

from headstart.features import narrowed
from headstart.features.heads import ridge
from headstart.features.narrowed import Narrowed


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Features (300, 60) of very unequal units, one of them constant, around the means of three classes."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    means = random.normal(0, 1, (3, 60))
    features = (means[labels] + random.normal(0, 2, (300, 60))) * np.logspace(-3, 3, 60)
    features[:, 7] = 5.0
    return features.astype(np.float32), labels


def test_as_long_as_all_axes_are_kept_the_head_is_that_of_ridge_regression_on_the_features(drawn):
    features, labels = drawn

    found = Narrowed.of(features).ridge(np.arange(300), labels, 3)

    expected = ridge(features, labels, 3, calibrated=False)
    assert found.logits(features) == pytest.approx(expected.logits(features), abs=1e-4)


def test_a_part_of_the_samples_is_fitted_along_the_axes_of_all(drawn, monkeypatch):
    features, labels = drawn
    monkeypatch.setattr(narrowed, "_AXES", 20)
    monkeypatch.setattr(narrowed, "_SEEN", 100)
    every = Narrowed.of(features)

    found = every.ridge(np.arange(0, 300, 2), labels[::2], 3)

    assert every.points.shape == (300, 20)
    assert found.weight.shape == (3, 60)
    assert np.mean(found.logits(features[1::2]).argmax(1) == labels[1::2]) > 0.8


def test_where_samples_are_fewer_than_features_their_axes_are_as_many_as_they_span(drawn):
    features, labels = drawn
    few = features[:30]

    every = Narrowed.of(few)

    assert every.axes.shape == (60, 29)
    expected = ridge(few, labels[:30], 3, calibrated=False)
    found = every.ridge(np.arange(30), labels[:30], 3)
    assert found.logits(few) == pytest.approx(expected.logits(few), abs=1e-3)
