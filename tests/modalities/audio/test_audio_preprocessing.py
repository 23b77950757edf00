import json

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities.audio import MODALITY
from headstart.modalities.audio.section import AudioInput


@pytest.fixture
def fitted(maps):
    return MODALITY.fit(maps, AudioInput())


def test_each_band_of_the_training_split_has_mean_0_and_deviation_1(fitted, maps):
    inputs = fitted(MODALITY.batch(maps))

    assert inputs.shape == (12, 1, 100, 64)
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs.mean(dim=(0, 1, 2)), torch.zeros(64), atol=1e-3)
    assert torch.allclose(inputs.std(dim=(0, 1, 2)), torch.ones(64), atol=1e-3)


def test_it_is_read_in_parts_to_the_same_statistics(maps):
    many = np.tile(maps, (30, 1, 1, 1))

    whole = many[..., 0].reshape(-1, 64)
    fitted = MODALITY.fit(many, AudioInput())

    assert np.allclose(fitted.mean, whole.mean(axis=0))
    assert np.allclose(fitted.std, whole.std(axis=0))


def test_a_band_without_contrast_is_no_division_by_zero():
    silent = np.zeros((2, 100, 64, 1), dtype=np.uint8)

    assert torch.isfinite(MODALITY.fit(silent, AudioInput())(MODALITY.batch(silent))).all()


def test_a_bundle_keeps_it_as_json(fitted, maps):
    back = MODALITY.preprocessing(json.loads(json.dumps(fitted.to_dict())))

    assert back == fitted
    assert back.given == AudioInput()
    assert back.fit(maps, back.given) == fitted


@pytest.mark.parametrize(
    "change",
    [{"mean": [0.0]}, {"std": [0.0] * 64}, {"rate": 1}, {"seconds": "2"}, {"mels": 32}, {"mean": [float("nan")] * 64},
     {"std": None}],
    ids=str,
)  # fmt: skip
def test_a_damaged_one_is_refused(fitted, change):
    content = {**fitted.to_dict(), **change}

    with pytest.raises(InputError):
        MODALITY.preprocessing({key: value for key, value in content.items() if value is not None})


def test_maps_of_a_request_are_taken_of_any_type_of_number(fitted, maps):
    for kind in (np.uint8, np.int64, np.float64):
        assert np.array_equal(fitted.checked(maps.astype(kind)), maps)


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.zeros((1, 32, 32, 1)), "shape"), (np.zeros((100, 64, 1)), "shape"),
     (np.full((1, 100, 64, 1), 256), "reach from 256"), (np.full((1, 100, 64, 1), np.nan), "reach from nan"),
     (np.full((1, 100, 64, 1), 0.5), "fractions"), (np.full((1, 100, 64, 1), "a"), "type")],
)  # fmt: skip
def test_other_values_of_a_request_are_refused_with_what_is_expected(fitted, values, reason):
    with pytest.raises(InputError, match=rf"{reason}.*\(N, 100, 64, 1\), whole numbers from 0 to 255"):
        fitted.checked(values)


def test_maps_of_another_input_are_not_resized_but_refused(fitted):
    with pytest.raises(InputError, match=r"\(50, 64, 1\).*\(100, 64, 1\)"):
        fitted(torch.zeros(1, 50, 64, 1, dtype=torch.uint8))


def test_example_and_noise_fit_the_network(fitted):
    assert fitted.example(3).shape == fitted(MODALITY.batch(fitted.noise(3))).shape == (3, 1, 100, 64)
    assert np.array_equal(fitted.noise(3), fitted.noise(3))
    assert (fitted.channels, fitted.positions, MODALITY.usual_shape(fitted.given)) == (1, 6400, (100, 64, 1))
    assert fitted.described == "2 s at 16 kHz, 100 frames of 64 mel bands"


def test_the_example_files_decode_to_two_maps_that_differ(fitted):
    one, other = (MODALITY.decode(raw, fitted.given) for raw in MODALITY.examples(fitted))

    assert one.facts["seconds"] == 2
    rising = one.values[10:90, :, 0].argmax(axis=1)
    assert (np.diff(rising) >= 0).all()
    assert (np.diff(other.values[10:90, :, 0].argmax(axis=1)) <= 0).all()


def test_descriptors_tell_what_a_band_is_like_and_how_much_it_changes(maps):
    def described(maps):
        plain = MODALITY.plain(AudioInput())
        return {name: each.numpy() for name, each in MODALITY.descriptors(plain(MODALITY.batch(maps))).items()}

    found = described(maps)

    assert {name: values.shape for name, values in found.items()} == {"bands": (12, 192), "cepstrum": (12, 60)}
    steady = np.repeat(maps.mean(axis=1, keepdims=True).astype(np.uint8), 100, axis=1)
    of_steady = described(steady)["bands"]
    assert np.allclose(of_steady[:, :64], found["bands"][:, :64], atol=1 / 255)
    assert np.allclose(of_steady[:, 64:], 0, atol=1e-6)
    assert all(values.dtype == np.float32 for values in found.values())


def test_maps_are_turned_into_those_of_other_statistics_and_of_no_other_input(maps):
    ours = MODALITY.fit(maps, AudioInput())
    theirs = MODALITY.plain(AudioInput())
    factor, summand = ours.turned_into(theirs)
    batch = MODALITY.batch(maps)
    assert torch.allclose(ours(batch) * factor + summand, theirs(batch), atol=1e-2)
    assert ours.turned_into(MODALITY.plain(AudioInput(seconds=3.0))) is None
