"""Recordings are kept as their waveform, and everything that reads them gets the sound as it was."""

import io

import numpy as np
import pytest
import soundfile
import torch

from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.modalities.waveform import MODALITY
from headstart.modalities.waveform.filter_bank import filter_bank, frames_of
from headstart.modalities.waveform.preprocessing import Waves, padded
from headstart.modalities.waveform.section import WaveformInput
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export
from headstart.models.onnx import export as export_onnx
from headstart.strategies.baseline import BASELINES
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from tests.modalities.audio.sounds import encoded, speech, tone
from tests.quantizing import check_int8

GIVEN = WaveformInput(seconds=2)
CONTEXT = RunContext(state=None)


def stored(sound: np.ndarray, rate: int = 16000, **options: str) -> np.ndarray:
    return MODALITY.decode(encoded(sound, rate, **options), GIVEN).values


@pytest.mark.parametrize(("seconds", "at_once"), [(0.5, 32), (2, 8), (30, 1)])
def test_an_encoder_takes_16_seconds_of_sound_at_once(seconds, at_once):
    assert Waves(WaveformInput(seconds=seconds)).samples_at_once(torch.device("cpu")) == at_once


def test_samples_of_16_bits_are_kept_as_they_are_and_no_silence_is_added():
    raw = encoded(speech(1, 0.7))
    own, _ = soundfile.read(io.BytesIO(raw), dtype="int16")
    decoded = MODALITY.decode(raw, GIVEN)
    assert np.array_equal(decoded.values, own)
    assert decoded.facts["seconds"] == pytest.approx(0.7)


def test_other_rates_are_converted_long_recordings_cut_to_their_loudest_part_and_short_ones_a_tenth_of_a_second():
    assert len(stored(tone(440, 0.5, 44_100), 44_100)) == 8000
    quiet_then_loud = np.concatenate([0.01 * tone(300, 3), tone(300, 2)])
    found = stored(quiet_then_loud)
    assert len(found) == 32_000
    assert np.abs(found).reshape(10, -1).max(axis=1).min() > 10_000
    assert len(stored(tone(440, 0.01))) == 1600


@pytest.mark.parametrize("raw", [b"", b"RIFF", encoded(speech(1))[:500], b"text that is no sound"])
def test_what_is_no_recording_is_refused(raw):
    with pytest.raises(UnreadableSample):
        MODALITY.decode(raw, GIVEN)


def test_the_filter_bank_is_kaldis_as_transformers_computes_it():
    from transformers import ASTFeatureExtractor

    sound = (np.rint(speech(3, 0.5) * 32768) / 32768).astype(np.float32)
    extract = ASTFeatureExtractor(num_mel_bins=64, max_length=80, do_normalize=False)
    expected = extract(sound, sampling_rate=16000, return_tensors="pt").input_values[0]

    count = int(frames_of(torch.tensor(len(sound))))
    found = filter_bank(torch.from_numpy(sound)[None], 64, 80)[0]

    assert (count, found.shape) == (48, (80, 64))
    assert torch.allclose(found[:count], expected[:count], atol=1e-5)
    assert not expected[count:].any()


@pytest.mark.parametrize("method", [*MODALITY.augmentations, "none", "views"])
def test_augmentation_keeps_shape_and_padding_and_follows_the_draws_of_each_recording(method):
    batch = padded([stored(speech(seed, 0.4 + 0.2 * seed)) for seed in range(3)])
    draws = torch.rand(3, MODALITY.draws_per_sample, generator=torch.Generator().manual_seed(1))

    found = MODALITY.augment(batch, draws, method=method)
    alone = MODALITY.augment(batch[1:2], draws[1:2], method=method)

    assert (found["wave"].dtype, found["wave"].shape) == (torch.int16, batch["wave"].shape)
    assert torch.equal(found["kept"], batch["kept"])
    assert not found["wave"][~batch["kept"]].any()
    assert torch.equal(found["wave"][1], alone["wave"][0])
    assert torch.equal(found["wave"], batch["wave"]) == (method == "none")
    assert torch.equal(MODALITY.augment(batch, draws, method=method, strength=0.0)["wave"], batch["wave"])


def test_a_recording_is_not_played_backwards():
    with pytest.raises(InputError, match="no mirror image"):
        MODALITY.augment(padded([stored(speech(1))]), torch.rand(1, 6), method="gain", flip=True)


def test_copies_are_found_whatever_their_length_and_others_are_none():
    alike = MODALITY.alike
    for seconds in (0.6, 1.5):
        sounds = [speech(1, seconds), 0.3 * speech(1, seconds), speech(2, seconds), speech(1, seconds)]
        samples = [stored(each, kind="OGG" if number == 3 else "WAV") for number, each in enumerate(sounds)]
        joined = alike.pairs(alike.marks(samples), samples.__getitem__)
        assert {number for pair in joined for number in pair} == {0, 1, 3}


def test_descriptors_do_not_depend_on_the_padding():
    samples = [stored(speech(1, 0.4)), stored(speech(2, 1.5))]
    plain = MODALITY.plain(GIVEN)
    for name, found in MODALITY.descriptors(plain(padded(samples))).items():
        alone = MODALITY.descriptors(plain(padded(samples[:1])))[name]
        assert torch.allclose(found[:1], alone, atol=1e-4)
        assert found.shape == (2, {"bands": 192, "cepstrum": 60}[name])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 3, 1)), "of shape"),
        (np.zeros((2, 0)), "of shape"),
        (np.full((1, 5), 40_000), "reach from"),
        (np.full((1, 5), 0.5), "fractions"),
        (np.array([["a"]]), "are <U1"),
    ],
)
def test_numbers_of_a_request_are_checked(values, reason):
    with pytest.raises(InputError, match=reason):
        Waves(GIVEN).checked(values)
    assert Waves(GIVEN).checked(np.full((2, 5), -32768.0))[1].dtype == np.int16


def test_preprocessing_is_kept_as_json_and_a_description_that_was_tampered_with_is_refused():
    reads = Waves(GIVEN)
    assert MODALITY.preprocessing(reads.to_dict()) == reads
    for wrong in ({}, {**reads.to_dict(), "rate": 10**9}, {**reads.to_dict(), "seconds": "long"}):
        with pytest.raises(InputError):
            MODALITY.preprocessing(wrong)


def test_a_sample_is_shown_as_its_spectrogram_and_played_as_it_is():
    page = MODALITY.as_html(stored(speech(1)), "a word", GIVEN)
    assert 'alt="a word"' in page
    assert "<audio controls" in page
    assert "<audio" not in MODALITY.as_html(stored(speech(1)), "a word", GIVEN, small=True)


def test_the_report_of_a_data_set_tells_lengths_and_says_of_no_padding(packed):
    facts = [MODALITY.decode(encoded(speech(seed, 0.5 + seed)), GIVEN).facts for seed in range(3)]
    report = MODALITY.data_report(facts, (None,), GIVEN)
    assert "waveforms of their own length" in report
    assert "padded with silence" not in report
    assert packed.manifest["shape"] == [None]


@pytest.fixture(scope="module")
def trained(packed) -> ModelBundle:
    section = Pretraining(architecture="transformer_sound", epochs=6, batch_size=8)
    return pretrain(section, packed, CONTEXT).bundle


def test_an_encoder_is_trained_from_nothing_kept_and_comes_back_equal(trained, packed, tmp_path):
    test = packed.split("test")
    trained.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")
    logits = trained.predict_logits(test.samples)
    assert float((logits.argmax(axis=1) == test.labels).mean()) > 0.7
    assert np.array_equal(again.predict_logits(test.samples), logits)
    alone = np.concatenate([trained.predict_logits([sample]) for sample in test.samples[:4]])
    assert np.allclose(logits[:4], alone, atol=1e-4)


@pytest.mark.slow
def test_as_a_model_of_whole_numbers_a_recording_is_answered_alike_whatever_is_beside_it(trained, packed, tmp_path):
    recordings = packed.split("test").samples[:6]
    small = check_int8(trained, packed.split("train").samples[:8], recordings, tmp_path)
    assert np.abs(small.predict_outputs(recordings) - trained.predict_outputs(recordings)).max() < 0.1


@pytest.mark.slow
def test_it_is_exported_for_recordings_of_any_length(trained, tmp_path):
    assert export_onnx(trained, tmp_path / "model.onnx", digest="sha256:0") < 1e-4
    assert export(trained, tmp_path / "folder", format="torch", digest="sha256:0").difference < 1e-4
    assert "int16 samples at 16000 Hz" in (tmp_path / "folder" / "README.md").read_text()


@pytest.mark.slow
def test_the_classical_baseline_learns_and_what_it_learned_is_exported(packed, tmp_path):
    classical = BASELINES["classical"].fit(None, packed, Training(), CONTEXT).bundle
    test = packed.split("test")
    assert float((classical.predict_logits(test.samples).argmax(axis=1) == test.labels).mean()) > 0.8
    assert export_onnx(classical, tmp_path / "model.onnx", digest="sha256:0") < 1e-4


def test_the_first_stage_is_small_and_stages_compose():
    network = build_network("transformer_sound", classes=3).eval()
    inputs = Waves(GIVEN).example(2)
    outputs = network.activations(inputs)
    assert len(outputs) == len(network.stages) == 5
    assert torch.allclose(network.classify(outputs[-1]), network(inputs))
