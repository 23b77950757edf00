"""Networks of sequences are trained, transferred, kept, exported and served."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from starlette.testclient import TestClient

from headstart.api.models import Model
from headstart.errors import InputError
from headstart.judging.explanation import explain_tokens, explained_samples
from headstart.judging.robustness import robustness
from headstart.metrics.predictions import Predictions
from headstart.modalities.batch import Batch
from headstart.modalities.dna import MODALITY
from headstart.models.architectures import build_network, check_reads
from headstart.models.bundle import ModelBundle
from headstart.models.classical import linear
from headstart.models.exporting import export
from headstart.models.onnx import export as export_onnx
from headstart.models.token_encoder import token_states
from headstart.strategies.baseline import BASELINES
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.tracking import http_server
from headstart.tracking.serving import decoded, input_example
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from tests.modalities.sequences.conftest import stored
from tests.modalities.sequences.genes import CLASSES, MOTIF, gene, letters, write
from tests.quantizing import check_int8

CONTEXT = RunContext(state=None)


def accuracy(bundle: ModelBundle, dataset) -> float:
    test = dataset.split("test")
    return float((bundle.predict_logits(test.samples).argmax(axis=1) == test.labels).mean())


def batch_of(lengths: list[int]) -> Batch:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, 7, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    return Batch({"ids": ids, "mask": mask})


def test_stages_compose_to_the_network_and_end_in_one_vector_a_sequence():
    network = build_network("convnet_sequence", classes=3, channels=7).eval()
    batch = batch_of([30, 12, 1])

    outputs = network.activations(batch)

    assert len(outputs) == len(network.stages) == 5
    assert outputs[-1].shape == (3, network.feature_dim)
    assert torch.allclose(network.classify(outputs[-1]), network(batch))
    states, mask = token_states(network, batch), batch["mask"].unsqueeze(2)
    assert torch.allclose((states * mask).sum(dim=1) / mask.sum(dim=1), outputs[-1], atol=1e-5)
    check_reads("convnet_sequence", MODALITY)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing_not_even_the_statistics_of_a_training_batch(training):
    network = build_network("convnet_sequence", classes=3, channels=7).train(training)
    network.dropout.p = 0.0
    batch = batch_of([30, 12, 20])
    wider = Batch({name: torch.cat([each, torch.zeros_like(each)], dim=1) for name, each in batch.items()})

    assert torch.allclose(network(batch), network(wider), atol=1e-5)


def test_it_learns_is_kept_and_comes_back_equal(trained, packed, tmp_path):
    trained.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")

    assert accuracy(trained, packed) > 0.8
    samples = packed.samples("test")[:]
    assert np.array_equal(trained.predict_logits(samples), again.predict_logits(samples))


def test_neighbours_change_no_prediction(trained):
    samples = [stored(gene(CLASSES[seed % 2], seed)[: 20 + 4 * seed]) for seed in range(9)]

    alone = np.concatenate([trained.predict_logits([each]) for each in samples])

    assert np.allclose(trained.predict_logits(samples), alone, atol=1e-5)


def test_it_is_transferred(trained, packed):
    for name in ("zero", "linear_probe", "full"):
        strategy = Strategy.of({"name": name, "strategy": name})
        result = transfer(trained, packed, strategy, training=Training(epochs=2), context=CONTEXT)
        assert result.validation > 0.7, name


def test_a_transformer_reads_kmers(packed):
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    data = Data(uri=packed.manifest["source"]["uri"], input={"length": 64, "k": 3})
    dataset = prepare(data, packed.path.parent / "kmers", modality="dna")
    section = Pretraining(architecture="transformer_tiny", epochs=1, batch_size=16)

    bundle = pretrain(section, dataset, CONTEXT).bundle

    assert bundle.preprocessing.channels == 67
    assert np.isfinite(bundle.predict_logits(dataset.samples("test")[:3])).all()


@pytest.mark.slow
def test_as_a_model_of_whole_numbers_a_sequence_is_answered_alike_whatever_is_beside_it(trained, packed, tmp_path):
    check_int8(trained, packed.split("train").samples[:64], packed.split("test").samples[:6], tmp_path)


def test_an_export_reads_letters(trained, packed, tmp_path):
    assert export_onnx(trained, tmp_path / "model.onnx", digest="sha256:0") < 1e-4

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    samples = [packed.samples("test")[0], stored("acgt" * 5), stored("ACGTN")]
    given = {name: tensor.numpy() for name, tensor in MODALITY.batch(samples).tensors.items()}
    (found,) = session.run(["probabilities"], given)
    assert np.allclose(found, trained.predict_probabilities(samples), atol=1e-4)


@pytest.mark.slow
def test_an_exported_program_of_torch_reads_letters_and_says_so(trained, tmp_path):
    assert export(trained, tmp_path / "folder", format="torch", digest="sha256:0").difference < 1e-4
    assert "letters in ASCII" in (tmp_path / "folder" / "README.md").read_text()


@pytest.mark.slow
def test_the_classical_baseline_learns(packed):
    classical = BASELINES["classical"].fit(None, packed, Training(), CONTEXT).bundle

    assert accuracy(classical, packed) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("descriptors", "width"), [("kmers", 340), ("places", 512)])
def test_a_model_on_descriptors_is_exported_and_reads_letters(descriptors, width, packed, tmp_path):
    weight = np.random.default_rng(0).normal(size=(2, width))
    architecture, network = linear(weight, np.zeros(2), MODALITY, descriptors)
    bundle = ModelBundle(network, architecture, "dna", MODALITY.plain(packed.given), CLASSES)

    assert export_onnx(bundle, tmp_path / "model.onnx", digest="sha256:0") < 1e-4


def test_robustness_is_judged(trained, packed):
    test = packed.split("test")

    found = robustness(trained, test.samples[:6], test.labels[:6])

    assert [each.corruption for each in found.corrupted] == ["substitutions", "indels", "reverse complement"]


def test_predictions_rest_on_the_motifs_that_tell_the_classes_apart(trained, packed):
    samples = list(packed.split("test").samples[:20])
    predicted = trained.predict_logits(samples).argmax(axis=1)

    found = explain_tokens(trained, samples, predicted)

    inside, outside = [], []
    for sample, heat, label in zip(samples, found.maps, predicted.tolist(), strict=True):
        letters, motif = sample.tobytes().decode(), MOTIF[trained.classes[label]]
        is_in = np.zeros(len(sample), dtype=bool)
        for place in re.finditer(motif, letters):
            is_in[place.start() : place.end()] = True
        inside.append(heat[is_in].mean())
        outside.append(heat[~is_in].mean())
    assert np.mean(inside) > 3 * np.mean(outside)
    assert found.sane


def test_explained_sequences_are_shown_once_with_their_map(trained, packed):
    test = packed.split("test")
    probabilities = trained.predict_probabilities(test.samples)
    predictions = Predictions(test.ids, test.labels, probabilities, packed.classes)

    found = explained_samples(trained, packed, predictions, 4, seed=0)

    assert len(found.hardest) == len(found.right) == 2
    for sample in (*found.hardest, *found.right):
        assert sample.shown == ""
        assert "background: rgb(" in sample.heat
        assert len(sample.neighbours) == 3


def test_python_callers_give_sequences_files_and_tables(trained, tmp_path):
    model = Model("bundle#sha256=0", trained)
    texts = [gene("forward", 1), gene("reverse", 2)]
    (tmp_path / "two.fasta").write_text(f">one\n{texts[0].lower()}\n>two\n{texts[1]}\n")
    (tmp_path / "one.txt").write_text(texts[0])
    pd.DataFrame({"dna": texts}).to_csv(tmp_path / "genes.csv", index=False)
    expected = model.predict(texts)

    assert expected["path"].tolist() == ["#1", "#2"]
    fasta = str(tmp_path / "two.fasta")
    for data in (np.array(texts), pd.DataFrame({"dna": texts}), str(tmp_path / "genes.csv"), fasta, Path(fasta)):
        assert model.predict(data)["label"].tolist() == expected["label"].tolist()
    assert model.predict(fasta)["path"].tolist() == [f"{fasta}#one", f"{fasta}#two"]
    assert model.predict([tmp_path / "one.txt"])["label"][0] == expected["label"][0]
    assert model.predict(["", "ACGT"])["error"].tolist() == ["it is empty", ""]
    assert model.features(texts).shape == (2, 48)


def test_requests_hold_sequences_and_others_are_refused_by_number(trained):
    assert [each.tobytes() for each in decoded(trained, ["acgu"])] == [b"ACGT"]
    assert len(decoded(trained, input_example(trained)["dna"].tolist())) == 2
    with TestClient(http_server.application(trained, trained.predict_probabilities)) as client:
        found = client.post("/invocations", json={"inputs": [gene("forward", 3), "ACGT"]})
        wrong = client.post("/invocations", json={"inputs": ["ACGT", "ACXGT"]})

    assert [set(each) for each in found.json()["predictions"]] == [
        {"label", "probability", "p_forward", "p_reverse"}
    ] * 2
    assert wrong.status_code == 400
    assert "DNA sequence 1 of the request cannot be read: it has 'X' at position 3" in wrong.json()["message"]


def test_a_model_of_proteins_is_trained_and_read_back(tmp_path):
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    with (tmp_path / "proteins.faa").open("w") as file:
        for n in range(60):
            alphabet = ("ACDEFGHIKL", "ILMNPQRSTVWY")[n % 2]
            file.write(f">p{n} label={'ab'[n % 2]}\n{letters(n, 30 + n % 20, alphabet)}*\n")
    dataset = prepare(Data(uri=str(tmp_path / "proteins.faa")), tmp_path / "packed", modality="protein")

    bundle = pretrain(Pretraining(architecture="convnet_sequence", epochs=6, batch_size=16), dataset, CONTEXT).bundle
    bundle.save(tmp_path / "bundle")

    assert bundle.architecture == "convnet_sequence"
    assert accuracy(ModelBundle.load(tmp_path / "bundle"), dataset) > 0.8


def test_a_model_of_dna_is_no_source_for_proteins(trained, tmp_path):
    from headstart.models.sources import load_source

    trained.save(tmp_path / "bundle")

    with pytest.raises(InputError, match="dna"):
        load_source(str(tmp_path / "bundle"), modality="protein")


@pytest.mark.parametrize("architecture", ["convnet_sequence", "transformer_tiny"])
def test_hidden_letters_are_guessed_by_those_around_them(architecture, tmp_path):
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    with (tmp_path / "repeats.fasta").open("w") as file:
        for n in range(120):
            # What is hidden of a sequence is the letter that the rest of it repeats.
            file.write(f">r{n}\n{'ACGT'[n % 4] * (30 + n // 4)}\n")
    data = Data(uri=str(tmp_path / "repeats.fasta"), input={"length": 64}, labels="none")
    dataset = prepare(data, tmp_path / "packed", modality="dna", labels="none")
    section = Pretraining(architecture=architecture, objective="mlm", epochs=6, batch_size=8, learning_rate=0.003)

    trained = pretrain(section, dataset, CONTEXT)

    assert trained.bundle.classes == ()
    # Without a look at the others, all four letters are as likely.
    assert trained.history[-1]["val/loss"] < 0.4 * np.log(4)


def test_overlapping_kmers_cannot_be_hidden(tmp_path):
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    path = write(tmp_path / "genes.fa", 10)
    dataset = prepare(Data(uri=str(path), input={"k": 3}, labels="none"), tmp_path / "packed", modality="dna")

    with pytest.raises(InputError, match="overlap"):
        pretrain(Pretraining(architecture="transformer_tiny", objective="mlm", epochs=1), dataset, CONTEXT)


def test_kmers_are_hidden_of_sequences_that_have_letters_over(tmp_path):
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    read = {"length": 32, "k": 3, "overlap": False}
    data = Data(uri=str(write(tmp_path / "genes.fa", 10)), input=read, labels="none")
    dataset = prepare(data, tmp_path / "packed", modality="dna", labels="none")

    trained = pretrain(Pretraining(architecture="transformer_tiny", objective="mlm", epochs=1), dataset, CONTEXT)

    assert trained.bundle.preprocessing.length == 10
    assert np.isfinite(trained.history[-1]["val/loss"])


def test_training_without_labels_compares_views_of_sequences(packed):
    section = Pretraining(architecture="convnet_sequence", objective="vicreg", epochs=1, batch_size=8)

    bundle = pretrain(section, packed, CONTEXT).bundle

    assert np.isfinite(bundle.predict_features(packed.samples("test")[:])).all()
