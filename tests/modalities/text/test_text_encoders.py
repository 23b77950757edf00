"""Published encoders of texts compute as their own library does, and what only looks like one is refused."""

import json

import numpy as np
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file

from headstart.errors import InputError
from headstart.modalities.text import MODALITY
from headstart.models.bundle import ModelBundle
from headstart.models.importing import import_source
from headstart.models.onnx import export
from headstart.models.sources import load_source, pin_source
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Training
from tests.modalities.text.conftest import stored
from tests.modalities.text.corpus import text_of
from tests.modalities.text.encoders import write


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {}),
        ("bert", {"pool": "cls", "head": True}),
        ("bert", {"pool": "max", "hidden_act": "relu"}),
        ("roberta", {"pool": "mean", "head": True}),
        ("roberta", {}),
        ("distilbert", {}),
        ("distilbert", {"head": True, "activation": "relu"}),
    ],
)
def test_an_encoder_computes_what_transformers_own_does(kind, options, tmp_path):
    folder = write(tmp_path / kind, kind, **options)

    found = import_source(str(folder), tmp_path / "bundle")

    assert found.difference < 1e-5
    assert found.bundle.classes == ()
    assert found.bundle.preprocessing.length == (24 if options.get("pool") else 49 if kind == "roberta" else 50)
    again = ModelBundle.load(tmp_path / "bundle")
    samples = [stored(text_of("sport", 1, words=60)), stored("Goal.")]
    assert np.array_equal(again.predict_features(samples), found.bundle.predict_features(samples))
    assert not np.allclose(*again.predict_features(samples))


def test_its_tokenizer_cuts_and_fills_as_the_network_needs(tmp_path):
    bundle = load_source(str(write(tmp_path / "bert", "bert", pool="mean")))

    batch = bundle.preprocessing(MODALITY.batch([stored(text_of("sport", 1, words=80)), stored("Goal")]))

    assert batch["mask"].sum(dim=1).tolist() == [24, 3]
    assert batch["ids"][1, :3].tolist()[::2] == [2, 3]
    assert bundle.preprocessing.mask_id == 4
    assert bundle.preprocessing.special_ids == []


def test_it_is_pinned_to_all_that_decides_what_it_computes(tmp_path):
    folder = write(tmp_path / "bert", "bert", pool="mean")
    pins = {pin_source(str(folder))}

    for file, content in (
        ("1_Pooling/config.json", '{"pooling_mode_cls_token": true}'),
        ("sentence_bert_config.json", '{"max_seq_length": 12}'),
    ):
        (folder / file).write_text(content)
        pins.add(pin_source(str(folder)))
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer.replace("referee", "umpire"))
    pins.add(pin_source(str(folder)))

    assert len(pins) == 4


def test_it_is_transferred_to_texts_that_are_read_shorter(packed, tmp_path):
    bundle = load_source(str(write(tmp_path / "bert", "bert")), modality="text")
    strategy = Strategy.of({"name": "full", "strategy": "full"})

    found = transfer(bundle, packed, strategy, training=Training(epochs=4), context=RunContext(state=None))

    assert found.validation > 0.4
    assert found.bundle.preprocessing.given == packed.given


def test_a_classifier_on_it_is_exported_with_its_bounded_length(tmp_path):
    bundle = load_source(str(write(tmp_path / "bert", "bert")))
    bundle.network.replace_head(2)
    bundle.classes = ("no", "yes")

    assert export(bundle, tmp_path / "model.onnx", digest="sha256:0") < 1e-4

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    samples = [stored(text_of("tech", 1, words=200)), stored("Goal.")]
    ids = bundle.preprocessing(MODALITY.batch(samples)).tensors
    (found,) = session.run(["probabilities"], {name: tensor.numpy() for name, tensor in ids.items()})
    assert ids["ids"].shape == (2, 50)
    assert np.allclose(found, bundle.predict_probabilities(samples), atol=1e-4)


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def without(folder, name):
    state = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in state.items() if name not in key}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("[1"), "no JSON object"),
        (lambda folder: (folder / "sentence_bert_config.json").write_text("3"), "no JSON object"),
        (lambda folder: (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}'), "pools"),
        (lambda folder: change(folder, auto_map={"AutoModel": "evil.Model"}), "code of its repository"),
        (lambda folder: change(folder, position_embedding_type="relative_key"), "learned positions"),
        (lambda folder: change(folder, num_hidden_layers=3), "no layer 3"),
        (lambda folder: change(folder, num_hidden_layers=10**9), "no layer"),
        (lambda folder: change(folder, hidden_size=10**6), "no encoder"),
        (lambda folder: change(folder, hidden_size=32), "another shape"),
        (lambda folder: change(folder, hidden_act="swish"), "no encoder"),
        (lambda folder: change(folder, num_attention_heads=0), "no encoder"),
        (lambda folder: without(folder, "encoder.layer.1.attention.self.key"), "missing or of another shape"),
        (lambda folder: without(folder, "word_embeddings"), "missing or of another shape"),
        (lambda folder: without(folder, "position_embeddings"), "positions are missing"),
    ],
)
def test_what_only_looks_like_an_encoder_is_refused_in_a_sentence(spoil, reason, tmp_path):
    folder = write(tmp_path / "bert", "bert", pool="mean")
    spoil(folder)

    with pytest.raises(InputError, match=reason):
        load_source(str(folder))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = write(tmp_path / "bert", "bert")
    state = load_file(folder / "model.safetensors")
    key = next(key for key in state if "word_embeddings" in key)
    save_file({**state, key: state[key][:20].clone()}, folder / "model.safetensors")

    with pytest.raises(InputError, match="take both from one model"):
        load_source(str(folder))
