import numpy as np
import pytest

from headstart.modalities.audio import MODALITY
from headstart.modalities.audio.corruption import CORRUPTIONS
from headstart.modalities.audio.spectrogram import to_db, to_power
from tests.modalities.corrupted import assert_heavier_each_time


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_heavier_corruption_is_further_from_the_recording_and_the_same_every_time(name, maps):
    assert_heavier_each_time(CORRUPTIONS[name], maps)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_recording_is_corrupted_alike_whatever_comes_after_it(name, maps):
    assert np.array_equal(CORRUPTIONS[name].apply(maps[:4], 2), CORRUPTIONS[name].apply(maps, 2)[:4])


@pytest.mark.parametrize(("severity", "ratio"), [(1, 20), (2, 10), (3, 0)])
def test_noise_has_the_power_that_its_ratio_to_the_recording_says(severity, ratio, maps):
    power = to_power(maps).mean(dtype=np.float64)

    added = to_power(CORRUPTIONS["noise"].apply(maps, severity)).mean(dtype=np.float64) - power

    assert 10 * np.log10(power / added) == pytest.approx(ratio, abs=1)


def test_reverberation_fills_what_comes_after_a_sound_and_nothing_before():
    click = np.zeros((1, 100, 16, 1), dtype=np.uint8)
    click[:, 40] = 250

    found = to_db(CORRUPTIONS["reverberation"].apply(click, 2))[0, :, 0, 0]

    assert (found[:40] == -100).all()
    assert (np.diff(found[41:90]) <= 0).all()
    assert found[41] - found[41 + 30] == pytest.approx(60, abs=1)


def test_the_report_shows_them_in_their_order():
    assert [each.title for each in MODALITY.corruptions] == [
        "noise", "band limit", "quietness", "reverberation", "dropouts"
    ]  # fmt: skip
