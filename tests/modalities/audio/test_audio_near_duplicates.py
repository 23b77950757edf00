import numpy as np
import pytest
from scipy.signal import resample_poly

from headstart.modalities.audio.near_duplicates import SOUNDS_ALIKE
from tests.modalities.audio.conftest import stored
from tests.modalities.audio.sounds import RATE, speech

SOUNDS = [speech(seed, 1.8) for seed in range(8)]

COPIES = {
    "ogg": lambda sound: stored(sound, kind="OGG"),
    "mp3": lambda sound: stored(sound, kind="MP3"),
    "u-law": lambda sound: stored(sound, subtype="ULAW"),
    "12 dB down": lambda sound: stored(sound / 4),
    "at 8 kHz": lambda sound: stored(resample_poly(sound, 1, 2), RATE // 2),
    "at 44.1 kHz": lambda sound: stored(resample_poly(sound, 441, 160), 44100),
    "the other way round": lambda sound: stored(-sound),
}


def pairs(maps: list[np.ndarray]) -> list[tuple[int, int]]:
    return SOUNDS_ALIKE.pairs(SOUNDS_ALIKE.marks(maps), maps.__getitem__)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_and_nothing_else(name):
    maps = [stored(sound) for sound in SOUNDS] + [COPIES[name](sound) for sound in SOUNDS[:4]]

    assert pairs(maps) == [(0, 8), (1, 9), (2, 10), (3, 11)]


def test_of_many_copies_so_many_pairs_are_found_as_connect_them():
    maps = [stored(SOUNDS[0] * level) for level in (1, 0.9, 0.8, 0.7, 0.6)]

    assert len(pairs(maps)) == 4


def test_silence_and_a_steady_tone_are_like_nothing():
    steady = 0.1 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)

    assert SOUNDS_ALIKE.marks([stored(np.zeros(RATE)), stored(steady), stored(SOUNDS[0])])[:2] == [None, None]


def test_the_sieve_keeps_copies_and_drops_most_others():
    marks = SOUNDS_ALIKE.marks([stored(sound) for sound in SOUNDS])
    copy = SOUNDS_ALIKE.marks([COPIES["ogg"](SOUNDS[5])])

    kept = SOUNDS_ALIKE.near(marks, copy)

    assert 5 in kept
    assert len(kept) < 4
    assert SOUNDS_ALIKE.near([], copy) == SOUNDS_ALIKE.near(marks, []) == []


def test_a_mark_is_a_hash_of_64_bits_and_a_coarse_form():
    (mark,) = SOUNDS_ALIKE.marks([stored(SOUNDS[0])])

    assert 0 <= mark[0] < 2**64
    assert SOUNDS_ALIKE.comparable((100, 64, 1), (100, 64, 1))
    assert not SOUNDS_ALIKE.comparable((100, 64, 1), (50, 64, 1))
