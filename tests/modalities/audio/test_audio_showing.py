import base64
import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from headstart.modalities.audio import MODALITY
from headstart.modalities.audio.section import AudioInput
from headstart.modalities.audio.spectrogram import to_db, to_map, to_sound
from tests.modalities.audio.conftest import stored
from tests.modalities.audio.sounds import RATE, speech, tone

GIVEN = AudioInput()


def contents(html: str, kind: str) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(rf'src="data:{kind};base64,([^"]+)"', html)]


def picture(html: str) -> np.ndarray:
    (raw,) = contents(html, "image/png")
    return np.asarray(Image.open(io.BytesIO(raw))).astype(int)


def test_a_map_gives_back_the_sound_that_it_came_from():
    values = stored(speech(3, 2.0))[..., 0]

    again = to_map(to_sound(values, GIVEN, RATE), GIVEN)

    heard = to_db(values) > to_db(values).max() - 30
    assert np.abs(to_db(again) - to_db(values))[heard].mean() < 2.5


def test_it_is_shown_with_time_to_the_right_and_pitch_upwards():
    rising = np.concatenate([tone(300, 1.0), tone(4000, 1.0)])

    shown = picture(MODALITY.as_html(stored(rising), "a rise", GIVEN, small=True)).sum(axis=2)

    assert shown.shape == (64, 100)
    assert shown[:, 20].argmax() > 40
    assert shown[:, 80].argmax() < 25


def test_heat_is_red_where_the_prediction_looks():
    heat = np.zeros((100, 64))
    heat[:50] = 1

    html = MODALITY.as_html(stored(speech(1)), "a word", GIVEN, heat=heat)

    shown = picture(html)
    assert (shown[:, :50, 0] > shown[:, :50, 2] + 50).all()
    assert (shown[:, 50:, 0] == shown[:, 50:, 2]).all()
    assert contents(html, "audio/wav") == [], "the sound is beside it already"


def test_the_player_has_what_the_model_hears_and_few_bytes_of_it():
    html = MODALITY.as_html(stored(tone(1000, 2.0)), "a tone", GIVEN)

    (raw,) = contents(html, "audio/wav")
    sound, rate = soundfile.read(io.BytesIO(raw))
    spectrum = np.abs(np.fft.rfft(sound))
    assert spectrum.argmax() * rate / len(sound) == pytest.approx(1000, abs=60)
    assert len(sound) / rate == pytest.approx(2, abs=0.05)
    assert len(raw) < 40_000
    assert contents(MODALITY.as_html(stored(tone(1000)), "a tone", GIVEN, small=True), "audio/wav") == []


def test_a_long_recording_is_played_in_part_and_silence_is_no_error():
    given = AudioInput(seconds=30, hop_ms=50)
    (raw,) = contents(MODALITY.as_html(np.zeros((600, 64, 1), dtype=np.uint8), "silence", given), "audio/wav")

    sound, rate = soundfile.read(io.BytesIO(raw))
    assert len(sound) / rate == pytest.approx(4, abs=0.1)
    assert (sound == 0).all()


def test_a_name_is_text_and_no_html():
    assert "<script>" not in MODALITY.as_html(stored(tone(500)), '"><script>', GIVEN)


def facts(seconds: float, rate: int = 16000, channels: int = 1, **others: float) -> dict[str, float]:
    return {"seconds": seconds, "rate": rate, "channels": channels, "peak": 0.5, "clipped": 0, "silent": 0.1, **others}


def test_the_report_tells_lengths_rates_and_what_is_padded_and_cut():
    told = [facts(1.0)] * 5 + [facts(2.0)] * 2 + [facts(5.0, 8000), facts(40.0, 44100, 2)]

    html = " ".join(MODALITY.data_report(told, (100, 64, 1), GIVEN).split())

    assert "From 1 s to 40 s, median 1 s, 54 s in all." in html
    assert "<b>55.6%</b> are shorter than the 2 s that are read" in html
    assert "22.2% are longer: their loudest 2 s are read." in html
    assert '<td class="number">44 100 Hz</td><td class="number">2</td><td class="number">1</td>' in html
    assert "11.1% have a lower rate" in html
    assert "None is clipped, very quiet or mostly silent." in html
    assert html.count('class="column') == 4


def test_the_report_names_what_is_clipped_quiet_and_silent():
    told = [facts(1.0, clipped=0.01), facts(1.0, peak=0.001), facts(1.0, silent=0.95), facts(1.0)]

    html = " ".join(MODALITY.data_report(told, (100, 64, 1), GIVEN).split())

    assert "1 s each, 4 s in all." in html
    for sentence in ("25.0% are clipped", "25.0% are very quiet", "25.0% are silent"):
        assert sentence in html


@pytest.mark.parametrize("lengths", [(0.001, 28800.0), (1.9, 2.1), (2.0, 2.5), (0.1, 0.2)])
def test_bars_lie_in_the_chart_and_none_is_both_padded_and_cut(lengths):
    html = MODALITY.data_report([facts(each) for each in lengths], (100, 64, 1), GIVEN)

    bars = re.findall(r'class="column( short)?" style="left: ([\d.]+)%; width: ([\d.]+)%', html)
    edge = float(re.search(r'class="edge[^"]*" style="left: ([\d.]+)%', html)[1])
    assert len(bars) == 2
    for short, left, width in bars:
        assert 0 <= float(left) < float(left) + float(width) <= 100.01
        assert (float(left) + float(width) <= edge + 0.02) == bool(short)


def test_somebody_is_told_where_many_are_cut_or_have_no_upper_bands():
    assert MODALITY.notes([facts(1.0)] * 9 + [facts(5.0, 8000)], GIVEN) == []

    cut, low = MODALITY.notes([facts(1.0), facts(5.0, 8000)], GIVEN)

    assert cut.startswith("50% of the recordings are longer than the 2 s")
    assert low.startswith("50% of the recordings have a lower rate than 16000 Hz")


def test_a_source_of_another_pitch_or_pace_is_told_apart_from_one_that_sees_all():
    assert MODALITY.lost(GIVEN, AudioInput()) is None
    assert "2 s at 8000 Hz" in MODALITY.lost(AudioInput(rate=8000), GIVEN)
