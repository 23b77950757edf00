import numpy as np
import pytest
import torch
from torch import nn

from headstart.judging.explanation import (
    explain,
    grad_cam,
    has_attention,
    integrated_gradients,
    nearest_training_samples,
)
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.modalities.image.showing import overlay
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network


def striped(count, side=32):
    """Grey pictures with a striped square in one quadrant, whose stripes are upright (class 0) or level (class 1); and
    the corners (N, 2) of the squares."""
    generator = np.random.default_rng(0)
    samples = generator.integers(90, 110, size=(count, side, side, 1), dtype=np.uint8)
    labels = np.arange(count) % 2
    corners = generator.integers(0, 2, size=(count, 2)) * (side // 2)
    stripes = np.repeat((np.arange(side // 2) // 2 % 2 * 200).astype(np.uint8)[None], side // 2, axis=0)
    for sample, label, (row, column) in zip(samples, labels, corners, strict=True):
        patch = stripes.T if label else stripes
        sample[row : row + side // 2, column : column + side // 2, 0] = patch
    return samples, labels, corners


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """A convnet that has learned to tell the two."""
    samples, labels, _ = striped(24)
    torch.manual_seed(0)
    network = build_network("convnet", classes=2, channels=1)
    found = ModelBundle(network, "convnet", "image", Preprocessing.fit(samples, 32, 1), ("upright", "level"))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    inputs, targets = found.preprocessing(torch.from_numpy(samples)), torch.from_numpy(labels)
    network.train()
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    assert (found.predict_logits(samples).argmax(1) == labels).all()
    return found


def test_grad_cam_is_the_map_computed_by_hand_from_gradients():
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 5, 3, padding=1)
    network = Network(
        [nn.Sequential(convolution, nn.Tanh()), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())], nn.Linear(5, 3)
    )
    inputs = torch.randn(2, 1, 8, 8)
    found = grad_cam(network, inputs, torch.tensor([2, 0]))
    maps = torch.tanh(convolution(inputs))
    # The logit of class k is w_k · mean of the map, so that the gradient at every position is w_k / 64.
    weights = network.head.weight[[2, 0]] / 64
    assert torch.allclose(found, (weights[:, :, None, None] * maps).sum(1), atol=1e-6)


def test_integrated_gradients_of_a_linear_model_are_weight_times_input():
    class Sum(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    network = Network([Sum()], nn.Linear(16, 2))
    inputs = torch.randn(3, 1, 4, 4)
    found = integrated_gradients(network, inputs, torch.tensor([0, 1, 1]))
    expected = (network.head.weight[[0, 1, 1]].reshape(3, 4, 4) * inputs[:, 0]).abs()
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_map_lies_over_what_tells_the_classes_apart_and_random_weights_change_it(bundle):
    samples, labels, corners = striped(12)
    found = explain(bundle, samples, labels)
    assert found.method == "Grad-CAM"
    maps = np.stack(found.maps)
    assert maps.shape == (12, 32, 32)
    assert (maps.min(), maps.max()) == (0, 1)
    inside = np.mean([m[i : i + 16, j : j + 16].mean() for m, (i, j) in zip(maps, corners, strict=True)])
    assert inside > 1.5 * (4 * maps.mean() - inside) / 3
    assert found.sane
    assert found.similarity < 0.5


def test_a_network_that_has_learned_nothing_does_not_pass_the_check(bundle):
    samples, labels, _ = striped(4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network("convnet", classes=2, channels=1)
    untrained = ModelBundle(network, "convnet", "image", bundle.preprocessing, bundle.classes)
    found = explain(untrained, samples, labels, seed=0)
    assert found.similarity == pytest.approx(1.0)
    assert not found.sane


def test_a_transformer_is_explained_by_integrated_gradients():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            tokens = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0].mean(1)

    assert has_attention(Network([Attentive()], nn.Linear(16, 2)))
    assert not has_attention(build_network("convnet", classes=2, channels=1))


def test_the_last_map_of_at_least_four_positions_a_side_is_weighed(bundle):
    samples, labels, _ = striped(2)
    maps = grad_cam(bundle.network, bundle.preprocessing(torch.from_numpy(samples)), torch.from_numpy(labels))
    # Of 32 pixels a convnet's stages make 16, 16, 8, 4 and 2.
    assert maps.shape == (2, 4, 4)


def test_a_network_without_any_map_is_explained_by_integrated_gradients(monkeypatch):
    network = Network([nn.Flatten()], nn.Linear(64, 2))
    monkeypatch.setattr(
        "headstart.judging.explanation.build_network", lambda *a, **b: Network([nn.Flatten()], nn.Linear(64, 2))
    )
    bundle = ModelBundle(network, "none", "image", Preprocessing(8, 1, (0.5,), (0.2,)), ("a", "b"))
    samples = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    assert explain(bundle, samples, np.array([0, 1])).method == "integrated gradients"


def test_the_nearest_training_sample_of_a_training_sample_is_itself(bundle):
    samples, _, _ = striped(6)
    features = bundle.predict_features(samples)
    nearest, cosines = nearest_training_samples(features[:3], features, 2)
    assert nearest[:, 0].tolist() == [0, 1, 2]
    assert cosines[:, 0] == pytest.approx(1.0)
    assert (cosines[:, 1] <= cosines[:, 0]).all()


def test_the_overlay_is_red_where_the_map_is_high_and_the_picture_where_it_is_low():
    picture = np.full((2, 2, 1), 100, dtype=np.uint8)
    heat = np.array([[1.0, 0.0], [0.0, 0.0]])
    red, green, _ = overlay(picture, heat)[0, 0]
    assert red > 200 > green
    assert overlay(picture, heat)[1, 1].tolist() == [100, 100, 100]
