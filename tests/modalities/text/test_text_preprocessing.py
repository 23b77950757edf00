"""Stored texts become token ids by a tokenizer that is learned of the training split and kept as JSON."""

import json

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities.text import MODALITY
from headstart.modalities.text.preprocessing import Tokens, check_ids
from tests.modalities.text.conftest import GIVEN, stored


@pytest.fixture(scope="module")
def tokens(texts) -> Tokens:
    return MODALITY.fit(texts, GIVEN)


def test_the_tokenizer_of_the_same_texts_is_the_same_every_time(tokens, texts):
    assert MODALITY.fit(texts, GIVEN) == tokens


def test_it_reads_any_text_and_gives_it_back(tokens):
    text = "unseen wörds, 数字 & 🙂"
    ids = tokens(MODALITY.batch([stored(text)]))["ids"][0]

    from headstart.modalities.text.preprocessing import tokenizer_of

    assert tokenizer_of(tokens.tokenizer).decode(ids.tolist()).strip() == text
    assert int(ids.max()) < tokens.channels


def test_each_token_stands_for_its_bytes(tokens):
    text = stored("The gøal of a 🙂 team, déjà vu")
    spans = tokens.spans(text)

    assert len(spans) == int(tokens(MODALITY.batch([text]))["mask"].sum())
    # Together they are the text, which none of them cuts within a character.
    assert b"".join(text[start:end].tobytes() for start, end in sorted({*map(tuple, spans.tolist())})) == text.tobytes()
    assert all(text[start:end].tobytes().decode() for start, end in spans.tolist())


def test_ids_are_padded_to_the_longest_text_and_bounded_by_the_length(tokens):
    batch = tokens(MODALITY.batch([stored("one"), stored("goal " * 200)]))

    assert batch["ids"].shape == batch["mask"].shape == (2, 64)
    assert batch["ids"].dtype == torch.int64
    assert batch["mask"].sum(dim=1).tolist()[1] == 64
    assert 1 <= int(batch["mask"][0].sum()) < 10
    assert not batch["ids"][0][~batch["mask"][0]].any()


def test_it_is_kept_as_json_and_comes_back_equal(tokens, texts):
    again = MODALITY.preprocessing(json.loads(json.dumps(tokens.to_dict())))
    batch = MODALITY.batch(texts)

    assert again == tokens
    assert torch.equal(again(batch)["ids"], tokens(batch)["ids"])
    assert MODALITY.preprocessing(MODALITY.plain(GIVEN).to_dict()) == MODALITY.plain(GIVEN)


@pytest.mark.parametrize(
    "spoil",
    [
        {"tokenizer": "no JSON"},
        {"tokenizer": '{"version": "1.0"}'},
        {"vocabulary": 3},
        {"most": 0},
        {"length": -1},
        {"encoding": "rot13"},
        {"vocabulary": "many"},
    ],
)
def test_a_description_that_was_tampered_with_is_refused(tokens, spoil):
    with pytest.raises(InputError):
        MODALITY.preprocessing({**tokens.to_dict(), **spoil})


def test_a_tokenizer_with_more_tokens_than_the_network_knows_is_refused(tokens):
    check_ids(tokens.tokenizer, tokens.channels)
    with pytest.raises(InputError, match="take both from one model"):
        check_ids(tokens.tokenizer, tokens.channels - 1)


def test_noise_is_text_and_the_same_every_time(tokens):
    noise = tokens.noise(3)

    assert all(np.array_equal(one, other) for one, other in zip(noise, tokens.noise(3), strict=True))
    assert tokens(MODALITY.batch(noise))["mask"].any(dim=1).all()
    assert tokens.example(2)["ids"].shape == (2, 64)
