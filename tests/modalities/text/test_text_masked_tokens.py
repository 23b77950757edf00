"""Pretraining on texts without labels: hidden tokens are guessed, and what was learned is worth something."""

import numpy as np
import pytest
import torch

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.token_encoder import embedding_of
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.masked_tokens import Masking
from headstart.training.section import Pretraining
from tests.modalities.text.corpus import WORDS

SECTION = Pretraining(architecture="transformer_tiny", objective="mlm", epochs=2, batch_size=8, learning_rate=0.002)


@pytest.fixture(scope="module")
def guesser(packed):
    return pretrain(SECTION, packed, RunContext(state=None))


def test_the_share_of_tokens_that_is_hidden_and_how_is_that_of_the_paper():
    ids = torch.full((400, 50), 7)
    draws = torch.rand(2, 400, 50, generator=torch.Generator().manual_seed(0))
    guessed = draws[0] < 0.15

    hidden = Masking().hidden(ids, guessed, draws[1], mask_id=1, vocabulary=1000)

    assert torch.equal(hidden[~guessed], ids[~guessed])
    found = hidden[guessed]
    assert float((found == 1).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((found == 7).float().mean()) == pytest.approx(0.1, abs=0.02)
    others = found[(found != 1) & (found != 7)]
    assert others.min() < 100
    assert 900 < others.max() < 1000


def test_hidden_tokens_are_guessed_by_those_around_them(tmp_path):
    words = [*WORDS["sport"][:6], *WORDS["money"][:6], *WORDS["tech"][:4]]
    (tmp_path / "texts").mkdir()
    for number in range(160):
        # What is hidden of a text is the word that the rest of it repeats.
        text = " ".join([words[number % 16]] * (12 + number % 11))
        (tmp_path / "texts" / f"{number:03}.txt").write_text(text)
    data = Data(uri=str(tmp_path / "texts"), input={"length": 32})
    dataset = prepare(data, tmp_path / "packed", modality="text", labels="none")
    section = SECTION.model_copy(update={"epochs": 5, "learning_rate": 0.003})

    trained = pretrain(section, dataset, RunContext(state=None))

    # Without a look at the others, all sixteen words are as likely.
    assert trained.history[-1]["val/loss"] < 0.2 * np.log(16)


def test_its_bundle_has_features_and_no_classes_and_comes_back_equal(guesser, packed, tmp_path):
    bundle = guesser.bundle
    bundle.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")

    assert bundle.classes == ()
    assert bundle.provenance["objective"] == "mlm"
    samples = packed.samples("test")[:5]
    assert np.array_equal(again.predict_features(samples), bundle.predict_features(samples))
    assert not [name for name in bundle.network.state_dict() if "layer." in name and "stages" not in name]


def test_labels_have_no_part_and_the_same_seed_gives_the_same_weights(guesser, packed):
    again = pretrain(SECTION, packed, RunContext(state=None)).bundle

    assert torch.equal(embedding_of(again.network).weight, embedding_of(guesser.bundle.network).weight)


def test_a_batch_in_parts_is_learned_as_a_whole_one(packed):
    one, two = (
        pretrain(
            SECTION.model_copy(update={"epochs": 1, "accumulate": parts, "learning_rate": 1e-4}),
            packed,
            RunContext(state=None),
        ).history[0]["val/loss"]
        for parts in (1, 2)
    )

    # Dropout differs between the two.
    assert one == pytest.approx(two, abs=0.02)


def test_settings_without_a_meaning_and_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match="patience has no meaning with objective mlm"):
        Pretraining.of({"objective": "mlm", "patience": 3})


def test_a_network_that_reads_no_tokens_is_refused(packed):
    from dataclasses import replace

    from headstart.models.architectures.convnet import convnet
    from headstart.training.masked_tokens import fit_masked_tokens
    from headstart.training.plan import make_plan

    bundle = pretrain(SECTION.model_copy(update={"epochs": 1}), packed, RunContext(state=None)).bundle
    plan = make_plan(SECTION, np.zeros(10, dtype=np.int64), pretrained=False)

    with pytest.raises(InputError, match="mlm hides tokens of texts and sequences, and convnet reads none"):
        fit_masked_tokens(
            replace(bundle, network=convnet(classes=2), architecture="convnet"),
            packed,
            plan,
            RunContext(state=None),
            Masking(),
        )
