"""Augmentations and corruptions change letters, and another strand is read in its own direction."""

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities import modality
from headstart.modalities.dna import MODALITY
from headstart.modalities.dna.corruption import CORRUPTIONS
from tests.modalities.sequences.conftest import stored
from tests.modalities.sequences.genes import RESIDUES, letters

PROTEIN = modality("protein")
METHODS = ["substitutions", "views"]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, MODALITY.draws_per_sample, generator=torch.Generator().manual_seed(seed))


def texts(batch) -> list[str]:
    return [bytes(row[kept].tolist()).decode() for row, kept in zip(batch["letters"], batch["kept"], strict=True)]


@pytest.mark.parametrize("method", METHODS)
def test_augmentation_keeps_shape_and_type_and_follows_the_draws_of_each_sequence(sequences, method):
    batch = MODALITY.batch(sequences)
    first, other = (MODALITY.augment(batch, draws(12, seed), method=method, flip=True) for seed in (1, 2))

    assert (first["letters"].shape, first["letters"].dtype) == (batch["letters"].shape, torch.uint8)
    assert torch.equal(first["kept"], batch["kept"])
    assert texts(first) != texts(other)
    assert texts(batch) == [each.tobytes().decode() for each in sequences]
    alone = [
        MODALITY.augment(batch[i : i + 1], draws(12, 1)[i : i + 1], method=method, flip=True)["letters"]
        for i in range(12)
    ]
    assert torch.equal(torch.cat(alone), first["letters"])


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_without_strength_nothing_changes(sequences, method):
    batch = MODALITY.batch(sequences)

    assert texts(MODALITY.augment(batch, draws(12), method=method, strength=0.0)) == texts(batch)


def test_a_twentieth_of_the_letters_becomes_others_and_unknown_ones_stay():
    batch = MODALITY.batch([stored("ACGTNN" * 10)] * 200)

    changed = MODALITY.augment(batch, draws(200), method="substitutions")

    other = changed["letters"] != batch["letters"]
    assert float(other.float().mean()) == pytest.approx(0.05 * 40 / 60, abs=0.005)
    assert set("".join(texts(changed))) == set("ACGTN")
    # Each of the three others is as likely.
    became = changed["letters"][other & (batch["letters"] == ord("A"))]
    assert torch.bincount(became, minlength=128)[[ord(c) for c in "CGT"]].min() > 0.2 * len(became)


def test_flip_shows_about_half_of_the_sequences_as_their_other_strand():
    batch = MODALITY.batch([stored("AACGRN"), stored("CC")] * 200)

    found = texts(MODALITY.augment(batch, draws(400), method="none", flip=True))

    assert set(found[::2]) == {"AACGRN", "NYCGTT"}
    assert set(found[1::2]) == {"CC", "GG"}
    assert 0.4 < np.mean([each in ("NYCGTT", "GG") for each in found]) < 0.6


def test_a_protein_has_no_other_strand():
    values = PROTEIN.decode(letters(0, 40, RESIDUES).encode(), PROTEIN.input()).values

    with pytest.raises(InputError, match="no other strand"):
        PROTEIN.augment(PROTEIN.batch([values]), draws(1), method="none", flip=True)
    assert [each.title for each in PROTEIN.corruptions] == ["substitutions", "indels"]
    changed = PROTEIN.augment(PROTEIN.batch([values] * 50), draws(50), method="substitutions")
    assert set("".join(texts(changed))) <= set(RESIDUES)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_heavier_corruption_changes_more_and_the_same_every_time(name):
    samples = [np.frombuffer(letters(seed, 200).encode(), np.uint8) for seed in range(24)]

    def changed(severity: int) -> int:
        found = CORRUPTIONS[name].apply(samples, severity)
        again = CORRUPTIONS[name].apply(samples, severity)
        assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
        assert all(each.dtype == np.uint8 and set(each.tobytes()) <= set(b"ACGT") for each in found)
        pairs = list(zip(samples, found, strict=True))
        if name == "indels":
            # How much of the sequence is no longer found in runs of eight.
            return sum(
                one[start : start + 8].tobytes() not in other.tobytes() for one, other in pairs for start in range(192)
            )
        return sum(int((one != other).sum()) for one, other in pairs)

    assert 0 < changed(1) < changed(2) < changed(3)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_sequence_is_corrupted_alike_whatever_is_beside_it(name, sequences):
    alone = CORRUPTIONS[name].apply(sequences[3:4], 2)[0]

    assert np.array_equal(CORRUPTIONS[name].apply(sequences, 2)[3], alone)


def test_a_single_letter_is_never_lost():
    assert all(len(each) for each in CORRUPTIONS["indels"].apply([stored(letter) for letter in "ACGT" * 20], 3))
