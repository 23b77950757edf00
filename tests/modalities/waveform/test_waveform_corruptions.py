"""Corruptions of waveforms: what each takes from the sound, and that it takes the same every time."""

import numpy as np
import pytest

from headstart.modalities.waveform import MODALITY
from headstart.modalities.waveform.corruption import CORRUPTIONS
from tests.modalities.audio.sounds import speech

WAVES = [np.rint(20_000 * speech(seed, 0.3 + 0.1 * seed)).astype(np.int16) for seed in range(4)]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_heavier_corruption_is_further_from_the_recording_and_the_same_whatever_is_beside_it(name):
    before, apply = [wave.copy() for wave in WAVES], CORRUPTIONS[name].apply
    found = [apply(WAVES, severity) for severity in (1, 2, 3)]

    for each in found:
        assert [(wave.shape, wave.dtype) for wave in each] == [(wave.shape, np.int16) for wave in WAVES]
    apart = [np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(each, WAVES, strict=True)]) for each in found]
    assert min(apart) > 0
    # A sound that oscillates is as far from itself a period later as two.
    assert name == "time_shift" or apart == sorted(apart)
    assert np.array_equal(apply(WAVES[2:3], 2)[0], found[1][2])
    assert all(np.array_equal(a, b) for a, b in zip(before, WAVES, strict=True))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("wave", [np.zeros(50, np.int16), np.array([7], np.int16), np.full(9, -32768, np.int16)])
def test_silence_and_a_single_value_and_full_scale_stay_waveforms(name, wave):
    for severity in (1, 2, 3):
        (found,) = CORRUPTIONS[name].apply([wave], severity)
        assert (found.shape, found.dtype) == (wave.shape, np.int16)


@pytest.mark.parametrize(("severity", "ratio"), [(1, 20), (2, 10), (3, 0)])
def test_noise_has_the_power_that_its_ratio_to_the_recording_says(severity, ratio):
    wave = (0.3 * WAVES[3]).astype(np.int16)
    (found,) = CORRUPTIONS["noise"].apply([wave], severity)
    powers = [np.mean(each.astype(float) ** 2) for each in (wave, found.astype(float) - wave)]
    assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(ratio, abs=0.5)


def test_a_shift_moves_all_by_its_share_and_clipping_cuts_the_peaks_alone():
    wave = np.arange(1, 101, dtype=np.int16)
    (shifted,) = CORRUPTIONS["time_shift"].apply([wave], 2)
    assert np.array_equal(shifted, np.concatenate([np.zeros(10), wave[:90]]))
    (clipped,) = CORRUPTIONS["clipping"].apply([wave], 1)
    assert np.array_equal(clipped, np.minimum(wave, 50))


def test_the_report_shows_them_in_their_order():
    assert [each.title for each in MODALITY.corruptions] == [
        "noise", "quietness", "clipping", "time shift", "dropouts"
    ]  # fmt: skip
