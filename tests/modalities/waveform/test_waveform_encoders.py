"""Published networks for sound compute as their own library does, and what only looks like one is refused."""

import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from headstart.errors import InputError
from headstart.modalities.waveform import MODALITY
from headstart.models.architectures import build_network, check_reads
from headstart.models.bundle import ModelBundle
from headstart.models.importing import import_source
from headstart.models.onnx import export
from headstart.models.sources import load_source, pin_source
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.optimizer import make_optimizer
from headstart.training.plan import make_plan
from headstart.training.section import Training
from tests.modalities.audio.sounds import encoded, speech
from tests.modalities.waveform.encoders import LARGE, extractor, write

SPECTROGRAM = "audio-spectrogram-transformer"
KINDS = [
    (SPECTROGRAM, {}),
    ("wav2vec2", {}),
    ("wav2vec2", LARGE),
    ("hubert", {}),
    ("hubert", LARGE),
    ("data2vec-audio", {}),
    ("wavlm", {}),
    ("wavlm", LARGE),
    ("whisper", {}),
]
CONTEXT = RunContext(state=None)


@pytest.mark.parametrize("head", [True, False], ids=["classifier", "encoder"])
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_it_computes_what_transformers_own_does(kind, settings, head, tmp_path):
    write(tmp_path / "saved", kind, head=head, **settings)

    found = import_source(str(tmp_path / "saved"), tmp_path / "bundle")

    assert found.difference < 1e-5
    assert found.bundle.classes == (("no", "stop", "yes") if head else ())
    again = ModelBundle.load(tmp_path / "bundle")
    samples = again.preprocessing.noise(3)
    assert np.array_equal(again.predict_features(samples), found.bundle.predict_features(samples))


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_it_computes_from_a_files_bytes_what_transformers_computes_of_that_file_alone(kind, settings, tmp_path):
    model = write(tmp_path / "saved", kind, **settings)
    bundle = load_source(str(tmp_path / "saved"))
    files = [
        encoded(speech(seed, seconds), kind=format) for seed, seconds, format in ((1, 0.3, "WAV"), (2, 0.7, "FLAC"))
    ]
    given = bundle.preprocessing.given.model_copy(update={"seconds": 5.0})

    found = bundle.predict_logits([MODALITY.decode(file, given).values for file in files])

    for row, file in zip(found, files, strict=True):
        sound, rate = soundfile.read(io.BytesIO(file), dtype="float32")
        given = extractor(kind)(sound, sampling_rate=rate, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**given).logits[0].numpy()
        assert np.abs(row - expected).max() < 1e-5
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_settings_of_the_feature_extractor_are_the_models(tmp_path):
    write(tmp_path / "saved", "wav2vec2", rate=8000)
    (tmp_path / "saved" / "preprocessor_config.json").write_text('{"sampling_rate": 8000, "do_normalize": false}')

    bundle = load_source(str(tmp_path / "saved"))

    assert bundle.preprocessing.given.rate == 8000
    quiet, loud = (np.rint(level * np.sin(np.arange(4000))).astype(np.int16) for level in (100, 10_000))
    assert not np.allclose(*bundle.predict_logits([quiet, loud]), atol=1e-3)
    write(tmp_path / "normal", "wav2vec2")
    assert np.allclose(*load_source(str(tmp_path / "normal")).predict_logits([quiet, loud]), atol=0.1)


def test_it_is_pinned_to_the_settings_of_its_feature_extractor_too(tmp_path):
    write(tmp_path / "saved", SPECTROGRAM)
    pinned = pin_source(str(tmp_path / "saved"))
    file = tmp_path / "saved" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "mean": -4.0}))

    with pytest.raises(InputError, match="was pinned to"):
        load_source(pinned)


@pytest.mark.parametrize("kind", ["unispeech", "sew", "wav2vec2-conformer"])
def test_a_network_for_sound_that_is_not_read_is_named_with_those_that_are(kind, tmp_path):
    write(tmp_path / "saved", "wav2vec2")
    file = tmp_path / "saved" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": kind}))

    with pytest.raises(
        InputError, match=f"sound of the type {kind} are not read; those that are: .*, wav2vec2, wavlm, whisper"
    ):
        load_source(str(tmp_path / "saved"))


@pytest.mark.parametrize("of", ["Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining"])
def test_a_recogniser_of_speech_is_a_source_without_a_head(of, tmp_path):
    write(tmp_path / "saved", "wav2vec2", of=of)
    bundle = load_source(str(tmp_path / "saved"))
    assert (bundle.classes, bundle.network.feature_dim) == ((), 32)
    assert bundle.provenance["left_out"] in (["lm_head"], ["project_hid", "project_q", "quantizer"])


@pytest.mark.parametrize("of", ["WhisperModel", "WhisperForConditionalGeneration"])
def test_whispers_encoder_is_a_source_and_silence_after_a_recording_is_no_part_of_its_features(of, tmp_path):
    model = write(tmp_path / "saved", "whisper", of=of)
    bundle = load_source(str(tmp_path / "saved"))
    assert (bundle.classes, bundle.network.feature_dim, bundle.preprocessing.given.seconds) == ((), 32, 1.0)
    assert bundle.provenance["left_out"] == ["decoder"]

    file = encoded(speech(1, 0.3), kind="WAV")
    found = bundle.predict_features([MODALITY.decode(file, bundle.preprocessing.given).values])

    sound, rate = soundfile.read(io.BytesIO(file), dtype="float32")
    values = extractor("whisper")(sound, sampling_rate=rate, return_tensors="pt").input_features
    with torch.inference_mode():
        states = model.get_encoder()(values).last_hidden_state[0]
    # A state each 20 ms.
    assert np.abs(found[0] - states[:15].mean(dim=0).numpy()).max() < 1e-5


def test_weights_under_the_names_of_older_versions_are_read(tmp_path):
    write(tmp_path / "saved", "hubert", head=False)
    before = load_source(str(tmp_path / "saved"))
    state = load_file(tmp_path / "saved" / "model.safetensors")
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }
    assert older.keys() != state.keys()
    save_file(older, tmp_path / "saved" / "model.safetensors", metadata={"format": "pt"})

    samples = before.preprocessing.noise(2)
    assert np.array_equal(
        load_source(str(tmp_path / "saved")).predict_features(samples), before.predict_features(samples)
    )


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_stages_follow_from_structure_frozen_ones_stay_to_the_bit_and_early_ones_learn_slower(kind, settings, tmp_path):
    write(tmp_path / "saved", kind, **settings)
    bundle = load_source(str(tmp_path / "saved"))
    network, count = bundle.network, len(bundle.network.stages)
    inputs = bundle.preprocessing.example(2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.freeze(2)
    plan = make_plan(Training(), np.arange(20) % 3, pretrained=True, layer_decay=0.5)
    optimizer = make_optimizer(network, network.stages, plan)

    network.train()
    network(inputs).logsumexp(dim=1).sum().backward()
    optimizer.step()

    after = network.state_dict()
    moved = {
        name.rpartition("stages.")[2].partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert count == (4 if kind == SPECTROGRAM else 5)
    assert moved == {*map(str, range(2, count)), "head"}
    peaks = sorted({group["peak"] / plan.learning_rate for group in optimizer.param_groups})
    assert peaks == [0.5**depth for depth in range(count - 2, -1, -1)]


@pytest.mark.parametrize("kind", [SPECTROGRAM, "hubert", "whisper"])
def test_it_is_transferred_by_every_kind_of_strategy(kind, packed, tmp_path):
    write(tmp_path / "saved", kind, head=False)
    source = load_source(str(tmp_path / "saved"))

    for name in ("zero", "linear_probe", "lora"):
        strategy = Strategy.of({"name": name, "strategy": name, **({"lora": 2} if name == "lora" else {})})
        result = transfer(source, packed, strategy, training=Training(epochs=2), context=CONTEXT)
        test = packed.split("test")
        assert result.bundle.predict_logits(test.samples).shape == (len(test.labels), 2), name
        assert result.validation > 0.4, name


@pytest.mark.slow
def test_it_is_exported_for_recordings_of_any_length(tmp_path):
    write(tmp_path / "saved", "wav2vec2")
    assert export(load_source(str(tmp_path / "saved")), tmp_path / "model.onnx", digest="sha256:0") < 1e-4


def test_pictures_and_recordings_as_waveforms_are_not_given_to_each_others_networks(tmp_path):
    with pytest.raises(
        InputError, match=r"convnet reads maps, and recordings are given as waves; .* transformer_sound"
    ):
        check_reads("convnet", MODALITY)
    check_reads("waveform/wav2vec2?hidden_size=32", MODALITY)
    write(tmp_path / "saved", SPECTROGRAM)
    with pytest.raises(InputError, match="reads waveform data, not audio"):
        load_source(str(tmp_path / "saved"), modality="audio")


def test_recordings_at_another_rate_are_refused_with_the_rate_that_is_meant(packed, tmp_path):
    write(tmp_path / "saved", "hubert", rate=8000)
    source = load_source(str(tmp_path / "saved"))
    with pytest.raises(InputError, match=r"stored at 16000 Hz and the model reads them at 8000; set rate: 8000"):
        transfer(
            source, packed, Strategy.of({"name": "zero", "strategy": "zero"}), training=Training(), context=CONTEXT
        )


def change(folder, file="config.json", **values):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **values}))


def without(folder, name):
    state = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if name not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


PROCESSOR = "preprocessor_config.json"


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("hubert", lambda folder: change(folder, auto_map={"AutoModel": "evil.Model"}), "code of its repository"),
        ("hubert", lambda folder: change(folder, quantization_config={"bits": 4}), "quantised"),
        ("hubert", lambda folder: change(folder, use_weighted_layer_sum=True), "sum over all of its layers"),
        ("wav2vec2", lambda folder: change(folder, add_adapter=True), "adapter after its layers"),
        ("hubert", lambda folder: change(folder, hidden_size=48), "another shape"),
        ("hubert", lambda folder: change(folder, hidden_size=2**19), "weights, and the files hold"),
        ("hubert", lambda folder: change(folder, num_hidden_layers=10**9), "not one of a network's structure"),
        ("hubert", lambda folder: change(folder, num_attention_heads=0), "describes no network|cannot have"),
        ("hubert", lambda folder: change(folder, feat_extract_activation="evil"), "describes no network"),
        ("hubert", lambda folder: without(folder, "layers.1.attention.k_proj"), "missing or of another shape"),
        ("hubert", lambda folder: change(folder, PROCESSOR, sampling_rate=10**9), "4000 to 48000"),
        ("hubert", lambda folder: change(folder, PROCESSOR, do_normalize="no"), "in a way that is not read"),
        ("hubert", lambda folder: (folder / PROCESSOR).write_text("[1"), "not JSON"),
        (SPECTROGRAM, lambda folder: change(folder, PROCESSOR, sampling_rate=8000), "take both from one model"),
        (SPECTROGRAM, lambda folder: change(folder, PROCESSOR, max_length=128), "take both from one model"),
        (SPECTROGRAM, lambda folder: change(folder, PROCESSOR, std=0.0), "cannot have std=0.0"),
        (SPECTROGRAM, lambda folder: change(folder, PROCESSOR, mean="x"), "cannot have mean='x'"),
        (SPECTROGRAM, lambda folder: change(folder, max_length=2**20), "up to 3000 of 256"),
        (
            "whisper",
            lambda folder: change(folder, PROCESSOR, feature_size=80),
            "feature_size 80, .* take both from one",
        ),
        ("whisper", lambda folder: change(folder, PROCESSOR, chunk_length=30), "chunk_length 30, .* with 1.0; take"),
        ("whisper", lambda folder: change(folder, PROCESSOR, do_normalize=True), "do_normalize True"),
        ("whisper", lambda folder: change(folder, use_weighted_layer_sum=True), "sum over all of its layers"),
        ("whisper", lambda folder: change(folder, max_source_positions=2**20), "up to 3000 of 256"),
        (SPECTROGRAM, lambda folder: change(folder, patch_size=0), "describes no network|another shape"),
    ],
)
def test_what_only_looks_like_one_is_refused_in_a_sentence(kind, spoil, reason, tmp_path):
    write(tmp_path / "saved", kind)
    spoil(tmp_path / "saved")

    with pytest.raises(InputError, match=reason) as refused:
        load_source(str(tmp_path / "saved"))

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "waveform/unispeech",
        "waveform/wav2vec2?wings=2",
        "waveform/wav2vec2?normalize=1",
        "waveform/audio-spectrogram-transformer?std=-1",
        "waveform/wav2vec2?num_hidden_layers=100000",
    ],
)
def test_names_of_networks_that_nobody_has_are_refused(name):
    with pytest.raises(InputError):
        build_network(name, classes=2)


@pytest.mark.parametrize("head", [True, False], ids=["a classifier", "no head"])
def test_a_network_is_built_anew_by_its_name_alone(head, tmp_path):
    write(tmp_path / "saved", "wav2vec2", head=head, **LARGE)
    bundle = load_source(str(tmp_path / "saved"))
    assert re.fullmatch(r"waveform/wav2vec2\?.*do_stable_layer_norm=true.*", bundle.architecture)
    built = build_network(bundle.architecture, classes=3)
    shapes = [
        {name: tensor.shape for name, tensor in network.stages.state_dict().items()}
        for network in (built, bundle.network)
    ]
    assert shapes[0] == shapes[1]
    assert built.head.weight.shape == (3, bundle.network.feature_dim)
