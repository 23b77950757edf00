"""Stored sequences become tokens: letters, or k-mers that overlap or follow each other."""

import json

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities import modality
from headstart.modalities.dna import MODALITY
from headstart.modalities.dna.section import DnaInput
from tests.modalities.sequences.conftest import stored

GIVENS = [{}, {"k": 3}, {"k": 3, "overlap": False}]


def ids(text: str, **given: object) -> list[int]:
    batch = MODALITY.fit([], DnaInput(length=64, **given))(MODALITY.batch([stored(text)]))
    return batch["ids"][0][batch["mask"][0]].tolist()


def test_letters_have_a_token_each_and_ambiguous_ones_one_together():
    assert ids("ACGTNRA") == [3, 4, 5, 6, 2, 2, 3]


def test_kmers_begin_at_every_letter_or_where_the_one_before_ends():
    number = {"ACG": 3 + 0 * 16 + 1 * 4 + 2, "CGT": 3 + 1 * 16 + 2 * 4 + 3, "TTT": 3 + 63}

    assert ids("ACGTTT", k=3)[:2] == [number["ACG"], number["CGT"]]
    assert ids("ACGTTTA", k=3, overlap=False) == [number["ACG"], number["TTT"]]
    assert ids("ACNTTT", k=3) == [2, 2, 2, number["TTT"]]
    assert ids("AC", k=3) == [2]


@pytest.mark.parametrize("given", GIVENS)
def test_each_token_stands_for_its_letters(given, sequences):
    reads = MODALITY.fit([], DnaInput(length=64, **given))
    for sequence in [*sequences, stored("AC")]:
        spans = reads.spans(sequence)
        alone = reads(MODALITY.batch([sequence]))
        assert len(spans) == int(alone["mask"].sum())
        letters = [sequence[start:end] for start, end in spans.tolist()]
        of_each = [reads(MODALITY.batch([each]))["ids"][0, 0] for each in letters]
        assert torch.equal(torch.stack(of_each), alone["ids"][0][alone["mask"][0]])


@pytest.mark.parametrize("given", GIVENS)
def test_tokens_of_a_sequence_do_not_depend_on_its_neighbours(given, sequences):
    reads = MODALITY.fit([], DnaInput(length=64, **given))

    batch = reads(MODALITY.batch(sequences))

    assert batch["ids"].dtype == torch.int64
    assert int(batch["ids"].max()) < reads.channels
    assert batch["mask"].shape[1] <= reads.length
    assert not batch["ids"][~batch["mask"]].any()
    for row, sequence in enumerate(sequences):
        alone = reads(MODALITY.batch([sequence]))
        assert torch.equal(alone["ids"][alone["mask"]], batch["ids"][row][batch["mask"][row]])


@pytest.mark.parametrize("given", GIVENS)
def test_it_is_kept_as_json_and_comes_back_equal(given):
    reads = MODALITY.fit([], DnaInput(length=64, **given))

    assert MODALITY.preprocessing(json.loads(json.dumps(reads.to_dict()))) == reads
    assert MODALITY.preprocessing(MODALITY.plain(reads.given).to_dict()) == MODALITY.plain(reads.given)
    assert reads.example(2)["ids"].shape == (2, reads.length)


@pytest.mark.parametrize("spoil", [{"tokens": 8}, {"k": 0}, {"length": "long"}, {"overlap": None}, {"tokens": "many"}])
def test_a_description_that_was_tampered_with_is_refused(spoil):
    with pytest.raises(InputError):
        MODALITY.preprocessing({**MODALITY.fit([], DnaInput()).to_dict(), **spoil})


def test_a_model_keeps_its_tokens_and_reads_as_far_as_its_data():
    reads = MODALITY.fit([], DnaInput(length=64, k=3)).read_as(DnaInput(length=100))

    assert (reads.given.k, reads.given.length) == (3, 100)
    assert "after 64 letters" in MODALITY.lost(DnaInput(length=64), DnaInput(length=100))
    assert MODALITY.lost(DnaInput(length=100), DnaInput(length=64)) is None


def test_kmers_are_counted_of_each_length_and_letters_by_their_place():
    batch = MODALITY.batch([stored("AACN"), stored("GGGGGG")])

    found = MODALITY.descriptors(batch)

    of_letters, of_pairs = found["kmers"][0, :4], found["kmers"][0, 4:20]
    assert of_letters.square().tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert of_pairs.square()[[0, 1]].tolist() == pytest.approx([0.5, 0.5])
    assert found["kmers"].shape == (2, 4 + 16 + 64 + 256)
    assert found["places"][0].nonzero()[:, 0].tolist() == [0, 4, 9]
    assert torch.equal(MODALITY.descriptors(batch[:1])["kmers"], found["kmers"][:1])


def test_a_protein_has_descriptors_of_its_own():
    kind = modality("protein")
    values = kind.decode(b"MKVLA", kind.input()).values

    found = kind.descriptors(kind.batch([values]))

    assert found["kmers"].shape == (1, 20 + 400)
    assert int(found["places"].sum()) == 5


def test_noise_is_of_the_alphabet_and_the_same_every_time():
    reads = MODALITY.fit([], DnaInput(length=20))

    assert all(np.array_equal(one, other) for one, other in zip(reads.noise(3), reads.noise(3), strict=True))
    assert all(len(each) == 20 and set(each.tobytes()) <= set(b"ACGT") for each in reads.noise(3))
