"""Encoders of texts are trained, transferred, kept, exported and served."""

import re
from dataclasses import replace

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from headstart.api.models import Model
from headstart.errors import InputError
from headstart.judging.explanation import explain_tokens, explained_samples
from headstart.judging.robustness import robustness
from headstart.judging.token_explanation import integrated_gradients
from headstart.metrics.predictions import Predictions
from headstart.modalities.batch import Batch
from headstart.modalities.text import MODALITY
from headstart.modalities.text.descriptors import WIDTH
from headstart.models.architectures import build_network, check_reads
from headstart.models.bundle import ModelBundle
from headstart.models.classical import linear
from headstart.models.exporting import export
from headstart.models.int8 import quantized
from headstart.models.onnx import checked, predictor
from headstart.models.onnx import export as export_onnx
from headstart.models.token_encoder import embedding_of, token_states
from headstart.strategies.baseline import BASELINES
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.tracking.request import Refusal
from headstart.tracking.serving import decoded, input_example
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from tests.modalities.text.conftest import stored
from tests.modalities.text.corpus import TOPICS, WORDS, text_of
from tests.quantizing import check_int8

CONTEXT = RunContext(state=None)


def accuracy(bundle: ModelBundle, dataset) -> float:
    test = dataset.split("test")
    return float((bundle.predict_logits(test.samples).argmax(axis=1) == test.labels).mean())


@pytest.mark.parametrize("name", ["transformer_tiny", "transformer_small", 'transformer?layers=6&norm="post"&heads=8'])
def test_stages_compose_to_the_network_and_end_in_one_vector_a_text(name):
    network = build_network(name, classes=3, channels=50).eval()
    batch = Batch({"ids": torch.randint(0, 50, (4, 9)), "mask": torch.ones(4, 9, dtype=torch.bool)})

    outputs = network.activations(batch)

    assert len(outputs) == len(network.stages)
    assert outputs[-1].shape == (4, network.feature_dim)
    assert torch.allclose(network.classify(outputs[-1]), network(batch))
    assert torch.allclose(token_states(network, batch).mean(dim=1), outputs[-1], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["transformer?width=7", "transformer?wings=2", "transformer?layers=100000", 'transformer?pool="sum"']
)
def test_sizes_that_no_encoder_has_are_refused(name):
    with pytest.raises(InputError):
        build_network(name, classes=2, channels=10)


def test_pictures_and_texts_are_not_given_to_each_others_networks():
    with pytest.raises(InputError, match=r"convnet reads maps, and texts are given as tokens; .* transformer_tiny"):
        check_reads("convnet", MODALITY)
    check_reads("transformer?layers=3", MODALITY)


def test_padding_and_neighbours_change_no_prediction(trained):
    samples = [stored(text_of(TOPICS[seed % 3], seed, words=20 * (1 + seed % 3))) for seed in range(9)]

    alone = np.concatenate([trained.predict_logits([each]) for each in samples])

    assert np.allclose(trained.predict_logits(samples), alone, atol=1e-5)


def test_it_learns_is_kept_and_comes_back_equal(trained, packed, tmp_path):
    trained.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")

    assert accuracy(trained, packed) > 0.6
    samples = packed.samples("test")[:]
    assert np.array_equal(trained.predict_logits(samples), again.predict_logits(samples))
    assert not [path for path in (tmp_path / "bundle").iterdir() if path.suffix not in (".json", ".safetensors", "")]


def test_it_is_transferred(trained, packed):
    training = Training(epochs=2)

    for name in ("zero", "linear_probe", "full", "lora"):
        strategy = Strategy.of({"name": name, "strategy": name, **({"lora": 4} if name == "lora" else {})})
        result = transfer(trained, packed, strategy, training=training, context=CONTEXT)
        assert result.validation > 0.6, name


def test_as_whole_numbers_embeddings_too_are_a_third_and_answer_alike(trained, packed):
    content, _, _ = checked(trained, "sha256:0")
    texts = packed.split("test").samples[:40]

    smaller = quantized(content, [])

    assert len(smaller) < len(content) / 3
    found = predictor(trained, smaller, threads=1)(texts)
    assert np.abs(found - trained.predict_probabilities(texts)).max() < 0.02


def test_as_a_model_of_whole_numbers_a_text_is_answered_alike_whatever_is_beside_it(trained, packed, tmp_path):
    texts = packed.split("test").samples[:6]

    small = check_int8(trained, packed.split("train").samples[:8], texts, tmp_path)

    assert np.abs(small.predict_outputs(texts) - trained.predict_outputs(texts)).max() < 0.05


def test_an_export_reads_token_ids(trained, packed, tmp_path):
    assert export_onnx(trained, tmp_path / "model.onnx", digest="sha256:0") < 1e-4

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    samples = packed.samples("test")[:3]
    ids = trained.preprocessing(MODALITY.batch(samples))
    (found,) = session.run(["probabilities"], {name: tensor.numpy() for name, tensor in ids.tensors.items()})
    assert np.allclose(found, trained.predict_probabilities(samples), atol=1e-4)


@pytest.mark.slow
def test_an_exported_program_of_torch_reads_token_ids_and_says_so(trained, tmp_path):
    assert export(trained, tmp_path / "folder", format="torch", digest="sha256:0").difference < 1e-4
    assert "token ids" in (tmp_path / "folder" / "README.md").read_text()


@pytest.mark.slow
def test_the_classical_baseline_learns(packed):
    classical = BASELINES["classical"].fit(None, packed, Training(), CONTEXT).bundle

    assert accuracy(classical, packed) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", ["words", "characters"])
def test_a_model_on_descriptors_is_exported_and_reads_bytes(descriptors, packed, tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, WIDTH))
    architecture, network = linear(weight, np.zeros(3), MODALITY, descriptors)
    bundle = ModelBundle(network, architecture, "text", MODALITY.plain(packed.given), TOPICS)

    assert export_onnx(bundle, tmp_path / "model.onnx", digest="sha256:0") < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    samples = packed.samples("test")[:5]
    given = {name: tensor.numpy() for name, tensor in MODALITY.batch(samples).tensors.items()}
    (found,) = session.run(["probabilities"], given)
    assert np.allclose(found, bundle.predict_probabilities(samples), atol=1e-4)


def test_robustness_is_judged(trained, packed):
    test = packed.split("test")

    found = robustness(trained, test.samples[:6], test.labels[:6])

    assert [each.corruption for each in found.corrupted] == ["typos", "dropped words", "lower case", "cut off"]


def test_predictions_rest_on_the_words_that_tell_the_topics_apart(trained, packed):
    samples = list(packed.split("test").samples[:])
    predicted = trained.predict_logits(samples).argmax(axis=1)

    found = explain_tokens(trained, samples, predicted)

    of_topic, common = [], []
    for sample, heat, label in zip(samples, found.maps, predicted.tolist(), strict=True):
        for word in re.finditer(r"\w+", sample.tobytes().decode().lower()):
            ours = of_topic if word[0] in WORDS[trained.classes[label]] else common
            ours.append(heat[word.start() : word.end()].mean())
    assert np.mean(of_topic) > 2 * np.mean(common)
    assert found.sane


def test_what_a_network_of_tokens_sums_up_to_is_its_logit(trained):
    """The axiom of completeness: attributions add up to the difference from no embeddings at all."""
    batch = trained.preprocessing(MODALITY.batch([stored(text_of("sport", 3)), stored(text_of("money", 4))]))
    targets = torch.tensor([0, 1])
    found = integrated_gradients(trained.network, batch, targets)

    hook = embedding_of(trained.network).register_forward_hook(lambda module, given, output: 0 * output)
    nothing = trained.network(batch)
    hook.remove()
    rise = (trained.network(batch) - nothing)[[0, 1], targets]
    assert torch.allclose(found.sum(dim=1), rise, rtol=0.1, atol=0.05)
    assert not found[~batch["mask"]].any()


def test_explained_texts_are_shown_once_with_their_map(trained, packed):
    test = packed.split("test")
    predictions = Predictions(test.ids, test.labels, trained.predict_probabilities(test.samples), packed.classes)

    found = explained_samples(trained, packed, predictions, 4, seed=0)

    assert len(found.hardest) == len(found.right) == 2
    for sample in (*found.hardest, *found.right):
        assert sample.shown == ""
        assert re.sub("<[^>]*>", "", sample.heat) in {text.tobytes().decode() for text in test.samples[:]}
        assert len(sample.neighbours) == 3


def test_python_callers_give_texts_files_and_tables(trained, tmp_path):
    model = Model("bundle#sha256=0", trained)
    texts = [text_of("sport", 1), text_of("money", 2)]
    (tmp_path / "one.txt").write_text(texts[0])
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "mails.csv", index=False)
    expected = model.predict(texts)

    assert expected["path"].tolist() == ["#1", "#2"]
    for data in (tuple(texts), np.array(texts), pd.DataFrame({"text": texts}), str(tmp_path / "mails.csv")):
        assert model.predict(data)["label"].tolist() == expected["label"].tolist()
    by_path = model.predict([tmp_path / "one.txt"])
    assert by_path["path"].tolist() == [str(tmp_path / "one.txt")]
    assert by_path["label"][0] == model.predict(str(tmp_path / "one.txt"))["label"][0] == expected["label"][0]
    assert model.predict(pd.DataFrame({"path": [str(tmp_path / "one.txt")]}))["error"].tolist() == [""]
    assert model.predict(["", "text"])["error"].tolist() == ["it is empty", ""]
    assert model.features(texts).shape == (2, 128)


def test_requests_hold_texts_and_those_without_any_are_refused_by_number(trained):
    assert [each.tobytes() for each in decoded(trained, ["a text", "größer"])] == [b"a text", "größer".encode()]
    assert len(decoded(trained, input_example(trained)["text"].tolist())) == 2
    for wrong, reason in ((["fine", " "], "Text 1 .* empty"), ([3], "Text 0 .* type int; give a text")):
        with pytest.raises(Refusal, match=reason):
            decoded(trained, wrong)


def test_a_model_that_reads_latin_1_files_reads_texts_of_any_letters(trained):
    given = trained.preprocessing.given.model_copy(update={"encoding": "latin-1"})
    reads = replace(trained.preprocessing, input=given)

    (values,) = decoded(replace(trained, preprocessing=reads), ["数字 £"])

    assert values.tobytes().decode() == "数字 £"


def test_training_without_labels_compares_views_of_texts(packed):
    section = Pretraining(architecture="transformer_tiny", objective="vicreg", epochs=1, batch_size=8)

    bundle = pretrain(section, packed, CONTEXT).bundle

    assert bundle.classes == ()
    assert np.isfinite(bundle.predict_features(packed.samples("test")[:])).all()
