import numpy as np
import pytest

from headstart.modalities.image.corruption import CORRUPTIONS
from tests.modalities.corrupted import assert_heavier_each_time

SEVERITIES = (1, 2, 3)


def pictures(channels=1, count=6, side=24):
    """Blobs on a dark ground."""
    rows, columns = np.mgrid[:side, :side]
    centres = np.random.default_rng(0).integers(side // 3, 2 * side // 3, size=(count, 2))
    blobs = [200 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 12) for y, x in centres]
    return np.repeat(np.stack(blobs)[..., None], channels, axis=3).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_heavier_corruption_is_further_from_the_picture_and_the_same_every_time(name, channels):
    assert_heavier_each_time(CORRUPTIONS[name], pictures(channels))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_picture_is_corrupted_alike_whatever_comes_after_it(name):
    samples = pictures()
    assert np.array_equal(CORRUPTIONS[name].apply(samples[:4], 2), CORRUPTIONS[name].apply(samples, 2)[:4])


def test_contrast_and_brightness_do_what_their_words_say():
    samples = pictures()
    flat, light = CORRUPTIONS["contrast"].apply(samples, 3), CORRUPTIONS["brightness"].apply(samples, 1)
    assert flat.mean() == pytest.approx(samples.mean(), abs=1)
    assert flat.std() < 0.25 * samples.std()
    assert light.mean() == pytest.approx(samples.mean() + 0.15 * 255, abs=1)
