import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (28, 1), (33, 3), (64, 3)])
def test_it_reads_pictures_of_any_size(size, channels):
    assert convnet(classes=4, channels=channels)(torch.randn(2, channels, size, size)).shape == (2, 4)


def test_it_is_small_and_has_a_stem_and_four_residual_stages():
    network = convnet(classes=10, channels=1)
    assert len(network.stages) == 5
    assert 100_000 < sum(parameter.numel() for parameter in network.parameters()) < 300_000


def test_it_learns_real_digits_within_a_few_passes():
    digits = load_digits()
    samples = (digits.images[..., None] * 255 / 16).astype(np.uint8)
    labels = torch.from_numpy(digits.target)
    preprocessing = Preprocessing.fit(samples[:1000], size=16, channels=1)
    images = preprocessing(torch.from_numpy(samples))
    torch.manual_seed(0)
    network = convnet(classes=10, channels=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(3):
        for rows in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        assert (network(images[1000:]).argmax(1) == labels[1000:]).float().mean() > 0.85
