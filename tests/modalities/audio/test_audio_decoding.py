from collections.abc import Callable

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.modalities.audio import MODALITY, decoding
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_db
from headstart.modalities.room import NoRoom, Room
from tests.modalities.audio.sounds import RATE, encoded, speech, tone

GIVEN = AudioInput()


def heard(raw: bytes, given: AudioInput = GIVEN) -> np.ndarray:
    """A file's map in dB, (frames, mels)."""
    return to_db(MODALITY.decode(raw, given).values[..., 0])


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
     ("MP3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_a_recording_is_the_same_map_in_every_format(kind, subtype):
    sound = speech(1)

    found = heard(encoded(sound, kind=kind, subtype=subtype))

    plain = heard(encoded(sound, subtype="PCM_24"))
    loud = plain > plain.max() - 30
    assert found.shape == (100, 64)
    assert np.abs(found - plain)[loud].mean() < 1.5


@pytest.mark.parametrize("hertz", [200, 1000, 5000])
@pytest.mark.parametrize("rate", [11025, 16000, 22050, 44100, 48000, 96001])
def test_a_tone_is_in_its_band_whatever_the_rate_of_the_file(hertz, rate):
    bands = heard(encoded(tone(hertz, 2.0, rate), rate))[50]

    mel = 2595 * np.log10(1 + np.array([40, hertz, RATE / 2]) / 700)
    assert abs(bands.argmax() - (64 + 1) * (mel[1] - mel[0]) / (mel[2] - mel[0]) + 1) < 1


def test_values_are_decibels_of_full_scale_and_a_step_of_gain_is_a_step_of_the_map():
    loud, quiet = (heard(encoded(tone(1000, 2.0, level=level), subtype="FLOAT"))[50] for level in (1.0, 0.01))

    # A sine of full scale has half of full scale's power.
    assert 10 * np.log10((10 ** (loud / 10)).sum()) == pytest.approx(-3, abs=1)
    assert (loud - quiet).max() == pytest.approx(40, abs=0.5)


def test_channels_are_averaged():
    left, right = tone(500, 2.0), tone(3000, 2.0)
    stereo = np.stack([left, right], axis=1)
    many = np.repeat(left[:, None], 32, axis=1)

    assert np.abs(heard(encoded(stereo)) - heard(encoded((left + right) / 2))).max() < 1
    assert np.abs(heard(encoded(many)) - heard(encoded(left))).max() < 1


def test_a_short_recording_lies_in_the_middle_of_silence():
    frames = heard(encoded(tone(1000, 0.4))).max(axis=1)

    assert (frames[:35] == -100).all()
    assert (frames[42:58] > -20).all()
    assert (frames[65:] == -100).all()


@pytest.mark.parametrize("start", [0.0, 3.1, 8.0])
def test_of_a_long_recording_the_loudest_part_is_read(start):
    sound = 0.001 * tone(200, 10.0)
    begin = round(start * RATE)
    sound[begin : begin + 2 * RATE] += tone(2000, 2.0)

    frames = heard(encoded(sound))

    assert (frames[1:-1].max(axis=1) > -20).all()


def test_of_hours_only_the_minute_in_the_middle_is_read():
    hour = np.zeros(3600 * 4000, dtype=np.int16)
    hour[1800 * 4000 :][: 2 * 4000] = 30_000 * tone(500, 2.0, 4000)
    raw = encoded(hour, 4000, "FLAC")

    found = MODALITY.decode(raw, GIVEN)

    assert to_db(found.values).max() > -20
    assert found.facts["seconds"] == 3600
    assert MODALITY.cost(raw, GIVEN) < 60 * 4000 + 40_000


def test_facts_tell_of_the_recording_as_it_came():
    sound = np.concatenate([np.zeros(RATE), np.clip(tone(1000, 1.0, level=2.0), -1, 1)])

    facts = MODALITY.decode(encoded(np.stack([sound, sound], axis=1)), GIVEN).facts

    assert facts["seconds"] == 2
    assert (facts["rate"], facts["channels"]) == (RATE, 2)
    assert facts["peak"] == pytest.approx(1, abs=1e-3)
    assert 0.3 < facts["clipped"] < 1 / 3, "a sine of twice full scale is beyond it two thirds of the time"
    assert facts["silent"] == pytest.approx(0.5, abs=0.02)


SOUND = speech(2)
WAV = encoded(SOUND)


def claims(**fields: int) -> bytes:
    """A WAV file whose head says something else."""
    places = {"channels": (22, 2), "rate": (24, 4), "length": (40, 4)}
    raw = bytearray(WAV)
    for name, value in fields.items():
        start, size = places[name]
        raw[start : start + size] = value.to_bytes(size, "little")
    return bytes(raw)


def with_value(value: float) -> bytes:
    sound = SOUND.copy()
    sound[100] = value
    return encoded(sound, subtype="FLOAT")


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "no samples": (lambda: encoded(np.zeros(0)), "no samples"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "not a recording"),
    "text": (lambda: b"hello", "not a recording"),
    "1 Hz": (lambda: encoded(SOUND, 1), "1 samples a second"),
    "a rate of 2^32 - 1": (lambda: claims(rate=2**32 - 1), "damaged"),
    "65 535 channels": (lambda: claims(channels=65535), "damaged"),
    "200 channels": (lambda: encoded(np.zeros((50, 200))), "200 channels"),
    "NaN": (lambda: with_value(np.nan), "no numbers"),
    "infinity": (lambda: with_value(np.inf), "no numbers"),
    "unscaled": (lambda: encoded(SOUND * 32767, subtype="FLOAT"), "1 is full scale"),
    "WAV cut short": (lambda: WAV[:-100], "cut short"),
    "RF64 cut short": (lambda: encoded(SOUND, kind="RF64")[:-100], "cut short"),
    "Ogg cut short": (lambda: encoded(SOUND, kind="OGG")[:-100], "cut short"),
    "FLAC cut short": (lambda: encoded(SOUND, kind="FLAC")[:-1000], "damaged|cut short"),
    "half an MP3": (lambda: encoded(SOUND, kind="MP3")[:4000], "cut short"),
    "nothing but a head": (lambda: b"RIFF\x24\0\0\0WAVE" + bytes(32), "damaged"),
    "a page of zeros": (lambda: b"OggS" + bytes(200), "damaged"),
    "chunks without end": (lambda: b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 100_000, "damaged"),
    "a tag of 256 MB": (lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + encoded(SOUND, kind="MP3"), "damaged"),
    "a million tags": (lambda: b"ID3\x04\0\0\0\0\0\0" * 1_000_000, "not a recording"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_whole_recording_is_refused_with_the_reason(name):
    make, reason = HOSTILE[name]

    with pytest.raises(UnreadableSample, match=reason) as refusal:
        MODALITY.decode(make(), GIVEN)

    assert "0x" not in str(refusal.value), "the same reason every time"


def test_a_file_whose_writer_could_not_know_its_length_is_read():
    streamed = bytearray(claims(length=2**32 - 1))
    streamed[4:8] = b"\xff" * 4

    assert np.array_equal(heard(bytes(streamed)), heard(WAV))


def test_a_flac_file_may_claim_any_length_without_taking_memory_for_it():
    raw = bytearray(encoded(SOUND, kind="FLAC"))
    raw[21] |= 0x0F
    raw[22:26] = b"\xff" * 4

    with pytest.raises(UnreadableSample, match=r"damaged|cut short"):
        MODALITY.decode(bytes(raw), GIVEN)
    assert MODALITY.cost(bytes(raw), GIVEN) < 63 * RATE


def test_silence_is_a_recording_too():
    assert (heard(encoded(np.zeros(RATE))) == -100).all()


@pytest.mark.parametrize(
    ("kind", "extension", "reason"),
    [("WAV", ".ogg", "WAV"), ("FLAC", ".wav", "FLAC"), ("OGG", ".mp3", "Ogg"), ("MP3", ".flac", "MP3")],
)
def test_a_name_that_says_another_format_is_a_contradiction(kind, extension, reason):
    assert reason in MODALITY.contradiction(encoded(SOUND, kind=kind), extension)


def test_a_right_name_is_no_contradiction_and_an_unknown_content_is_for_the_decoder():
    names = {"WAV": ".wav", "RF64": ".wav", "FLAC": ".flac", "OGG": ".oga", "MP3": ".mp3"}
    for kind, extension in names.items():
        assert MODALITY.contradiction(encoded(SOUND, kind=kind), extension) is None
    assert MODALITY.contradiction(b"hello", ".wav") is None
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + encoded(SOUND, kind="FLAC")
    assert MODALITY.contradiction(tagged, ".flac") is None


def test_decoding_takes_its_memory_from_the_room_and_gives_it_back():
    room = Room(1000)
    with room.take(1000), pytest.raises(NoRoom):
        MODALITY.decode(WAV, GIVEN, room=room, patience=0)
    assert MODALITY.decode(WAV, GIVEN, room=room, patience=0).values.shape == (100, 64, 1)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)

    with pytest.raises(InputError, match=r"headstart\[audio\]"):
        decoding.soundfile()


@pytest.mark.parametrize(
    ("given", "frames", "mels"),
    [({"rate": 4000, "seconds": 0.1, "hop_ms": 5, "mels": 256}, 20, 256),
     ({"rate": 48000, "seconds": 30, "hop_ms": 100, "mels": 16}, 300, 16),
     ({"rate": 22050, "seconds": 1.5, "hop_ms": 12.5}, 120, 64)],
)  # fmt: skip
def test_every_input_gives_the_map_that_it_says_and_no_band_is_deaf(given, frames, mels):
    section = AudioInput.of(given)
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(section.seconds * section.rate))

    found = heard(encoded(noise, section.rate), section)

    assert found.shape == (frames, mels)
    assert (found.mean(axis=0) > -80).all()


def test_an_input_without_room_for_a_network_or_without_end_is_refused():
    with pytest.raises(InputError, match="6000 frames"):
        AudioInput.of({"seconds": 30, "hop_ms": 5})
    with pytest.raises(InputError, match="5 frames"):
        AudioInput.of({"seconds": 0.1, "hop_ms": 20})
    with pytest.raises(InputError, match="mels"):
        AudioInput.of({"mels": 8})
    assert MODALITY.settled({}, "convnet") == {"rate": 16000, "seconds": 2.0, "mels": 64, "hop_ms": 20.0}
