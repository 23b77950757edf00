"""What a prediction on a waveform rests on: silencing it costs the most, and the page shows where it is."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from headstart.judging.explanation import explain_waves, explained_samples
from headstart.judging.wave_explanation import wave_maps
from headstart.metrics.predictions import Predictions
from headstart.modalities.waveform import MODALITY
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining
from tests.modalities.audio.sounds import RATE


@pytest.fixture(scope="module")
def trained(packed) -> ModelBundle:
    section = Pretraining(architecture="transformer_sound", epochs=6, batch_size=8)
    return pretrain(section, packed, RunContext(state=None)).bundle


class Loudness(nn.Module):
    """Mean squares (N, 1) of waveforms."""

    def forward(self, batch):
        wave = batch.tensors["wave"]
        return wave.square().mean(dim=1, keepdim=True)


def test_a_part_speaks_for_a_class_by_what_its_silence_takes_of_the_logit(trained):
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [-2.0]]))
    bundle = replace(trained, network=Network([Loudness()], head).eval())
    wave = np.concatenate([np.full(3200, 8192), np.zeros(3200), np.full(3200, -16384)]).astype(np.int16)

    first, second = wave_maps(bundle, [wave, wave], np.array([0, 1]))

    assert first.shape == wave.shape
    # Of 9,600 values in 12 parts, a part of 800 with squares of 1/16 or 1/4.
    assert first[0] == pytest.approx(800 / 9600 / 16, abs=1e-5)
    assert first[-1] == pytest.approx(800 / 9600 / 4, abs=1e-5)
    assert first[4800] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(second, -2 * first, atol=1e-5)


def test_a_recording_of_a_few_samples_is_one_part(trained):
    (found,) = wave_maps(trained, [np.arange(300, dtype=np.int16)], np.array([0]))
    assert found.shape == (300,)
    assert len(np.unique(found)) == 1


def test_the_map_of_a_class_lies_over_its_own_tone_and_not_over_that_of_the_other(trained):
    time, half = np.arange(RATE // 4) / RATE, RATE // 4
    high, low = (8000 * np.sin(2 * np.pi * hertz * time) for hertz in (2500, 700))

    for name, own, other in (("high", high, low), ("low", low, high)):
        waves = [np.concatenate(each).astype(np.int16) for each in ((own, other), (other, own))]
        found = explain_waves(trained, waves, np.full(2, trained.classes.index(name)))
        assert found.method == "silenced parts"
        for over, beside in (found.maps[0].reshape(2, half), found.maps[1].reshape(2, half)[::-1]):
            assert over.mean() > 2 * beside.mean(), name


def test_the_report_shows_test_items_in_grey_under_their_map(trained, packed):
    test = packed.split("test")
    outputs = trained.predict_outputs(test.samples)
    predictions = Predictions(test.ids, test.labels, outputs, packed.classes, test.groups)

    found = explained_samples(trained, packed, predictions, 4, seed=0)

    assert found.method == "silenced parts"
    for each in (*found.hardest, *found.right):
        assert "<audio" in each.shown
        assert "<audio" not in each.heat
        assert re.search(r'<img src="data:image/png', each.heat)
    wave = test.samples[0]
    plain, cold, hot = (
        MODALITY.as_html(wave, "w", packed.given, small=True, heat=heat)
        for heat in (None, np.zeros(len(wave)), np.ones(len(wave)))
    )
    assert len({plain, cold, hot}) == 3
