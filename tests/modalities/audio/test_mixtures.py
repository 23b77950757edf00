"""Mixed recordings: what is mixed is what the labels say, and no recording is in two splits."""

import csv
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.recipe.recipe import load_recipe
from headstart_pipelines.mixtures import RATE, in_noise, main, together, write_clips

RECIPES = Path(__file__).parents[3] / "pipelines" / "recipes"
soundfile = pytest.importorskip("soundfile")

TONES = {"low": 200.0, "high": 2000.0, "highest": 6000.0}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A language is a tone, and each of its recordings has another length."""
    root = tmp_path_factory.mktemp("spoken")
    for name, hertz in TONES.items():
        (root / name).mkdir()
        for number in range(10):
            times = np.arange(int((0.5 + 0.3 * number) * 22_050)) / 22_050
            soundfile.write(root / name / f"{number}.ogg", 0.5 * np.sin(2 * np.pi * hertz * times), 22_050)
    return {name: sorted((root / name).glob("*.ogg")) for name in TONES}


def loudness_of(sound, hertz):
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    return spectrum[np.abs(frequencies - hertz) < 50].sum() / spectrum.sum()


def test_a_clip_has_the_languages_that_its_label_names(recordings, tmp_path):
    write_clips(recordings, together, tmp_path / "clips", {"train": 12, "test": 6}, seed=0)

    with (tmp_path / "clips" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 12 + ["test"] * 6
    for row in rows:
        sound, rate = soundfile.read(tmp_path / "clips" / row["path"])
        assert (rate, len(sound)) == (RATE, 2 * RATE)
        assert np.abs(sound).max() < 1
        heard = {name for name, hertz in TONES.items() if loudness_of(sound, hertz) > 0.05}
        assert heard == set(row["label"].split(";"))
    assert {row["label"].count(";") for row in rows} == {0, 1, 2}


def test_noise_is_as_loud_as_its_label_says(recordings):
    generator = np.random.default_rng(0)
    # As long as a clip, so that the tone is there from its beginning to its end.
    long = {"high": recordings["high"][6:]}

    for _ in range(10):
        sound, label = in_noise(long, generator)
        tone = loudness_of(sound, TONES["high"])
        if -5 < float(label) < 20:
            assert 10 * np.log10(tone / (1 - tone)) == pytest.approx(float(label), abs=1.0)


def test_without_the_recordings_it_says_where_they_come_from(tmp_path):
    with pytest.raises(InputError, match=r"has no recordings in bg, .*headstart_pipelines\.spoken"):
        main(tmp_path, tmp_path / "mixtures")


@pytest.mark.parametrize(("name", "task"), [("languages_together", "multi_label"), ("speech_in_noise", "regression")])
def test_the_recipes_are_about_audio_and_their_task(name, task):
    recipe = load_recipe(RECIPES / f"{name}.yaml")

    assert recipe.modality == "audio"
    assert recipe.target.data.task == recipe.source.data.task == task
