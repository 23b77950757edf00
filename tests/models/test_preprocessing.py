import numpy as np
import pytest
import torch
from PIL import Image

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing

UNSCALED_RGB = Preprocessing(size=8, channels=3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
UNSCALED_GREY = Preprocessing(size=8, channels=1, mean=(0.0,), std=(1.0,))


def pictures(count: int, side: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_samples_become_normalised_channels_first_floats():
    samples = pictures(2, 8, 3)
    preprocessing = Preprocessing(size=8, channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    out = preprocessing(torch.from_numpy(samples))
    assert out.dtype == torch.float32
    expected = (samples / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.4, 0.3]
    assert np.allclose(out.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


def test_colour_becomes_the_grey_that_pillow_makes_of_it():
    samples = pictures(1, 8, 3)
    grey = UNSCALED_GREY(torch.from_numpy(samples))[0, 0].numpy() * 255
    assert np.abs(grey - np.asarray(Image.fromarray(samples[0]).convert("L"))).max() <= 1


def test_grey_becomes_three_equal_channels():
    out = UNSCALED_RGB(torch.from_numpy(pictures(2, 8, 1)))
    assert out.shape == (2, 3, 8, 8)
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])


@pytest.mark.parametrize(("channels", "wanted", "side"), [(3, 3, 8), (1, 3, 8), (3, 1, 8), (3, 3, 5), (1, 3, 16)])
def test_values_lie_pixel_by_pixel_and_the_samples_stay_as_they_are(channels, wanted, side):
    samples = torch.from_numpy(pictures(2, side, channels))
    before = samples.clone()
    out = (UNSCALED_RGB if wanted == 3 else UNSCALED_GREY)(samples)
    assert out.permute(0, 2, 3, 1).is_contiguous()
    assert torch.equal(samples, before)


def test_a_single_grey_pixel_can_be_read_as_a_colour():
    one = Preprocessing(size=1, channels=3, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    out = one(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8))
    assert torch.allclose(out.flatten(), torch.tensor([1.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("side", [5, 16])
def test_another_size_is_resized_and_keeps_the_brightness(side):
    samples = torch.from_numpy(pictures(1, side, 1))
    out = UNSCALED_GREY(samples)
    assert out.shape == (1, 1, 8, 8)
    assert abs(out.mean().item() - samples.float().mean().item() / 255) < 0.05


def test_samples_of_the_right_size_are_not_touched():
    samples = torch.from_numpy(pictures(1, 8, 1))
    assert torch.equal((UNSCALED_GREY(samples) * 255).round().byte(), samples.permute(0, 3, 1, 2))


@pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_fitted_statistics_normalise_what_they_were_fitted_on(channels, wanted):
    samples = pictures(300, 8, channels)
    preprocessing = Preprocessing.fit(samples, size=8, channels=wanted)
    out = preprocessing(torch.from_numpy(samples)).double()
    assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(wanted, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(out.std(dim=(0, 2, 3), correction=0), torch.ones(wanted, dtype=torch.float64), atol=1e-4)


def test_samples_without_contrast_give_finite_values():
    blank = np.full((3, 8, 8, 1), 7, dtype=np.uint8)
    assert torch.isfinite(Preprocessing.fit(blank, size=8, channels=1)(torch.from_numpy(blank))).all()


def test_it_survives_the_way_through_a_dictionary():
    preprocessing = Preprocessing.fit(pictures(4, 8, 3), size=8, channels=3)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"size": 8, "channels": 3, "mean": [0.0], "std": [1.0]},
        {"size": 8, "channels": 1, "mean": [0.0], "std": [0.0]},
        {"size": 8, "channels": 2, "mean": [0.0, 0.0], "std": [1.0, 1.0]},
        {"size": "large", "channels": 1, "mean": [0.0], "std": [1.0]},
    ],
)
def test_an_unusable_description_is_refused(content):
    with pytest.raises(InputError, match="preprocessing"):
        Preprocessing.from_dict(content)


def test_samples_with_two_channels_are_refused():
    with pytest.raises(InputError, match="2 channels"):
        UNSCALED_GREY(torch.zeros(1, 8, 8, 2, dtype=torch.uint8))
