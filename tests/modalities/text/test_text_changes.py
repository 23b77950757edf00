"""Augmentations and corruptions change texts by words, and leave characters whole."""

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities.text import MODALITY
from headstart.modalities.text.augmentation import AUGMENTATIONS
from headstart.modalities.text.corruption import CORRUPTIONS
from tests.modalities.text.conftest import stored

METHODS = [name for name in (*AUGMENTATIONS, "views") if name != "none"]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, MODALITY.draws_per_sample, generator=torch.Generator().manual_seed(seed))


def words(batch, row: int) -> list[str]:
    return bytes(batch["bytes"][row][batch["kept"][row]].tolist()).decode().split()


@pytest.mark.parametrize("method", METHODS)
def test_augmentation_keeps_shape_and_type_and_follows_the_draws_of_each_text(texts, method):
    batch = MODALITY.batch(texts)
    first, other = (MODALITY.augment(batch, draws(len(texts), seed), method=method) for seed in (1, 2))

    assert (first["bytes"].shape, first["bytes"].dtype) == (batch["bytes"].shape, torch.uint8)
    assert torch.equal(first["kept"], batch["kept"])
    assert not torch.equal(first["bytes"], other["bytes"])
    alone = [
        MODALITY.augment(batch[i : i + 1], draws(len(texts), 1)[i : i + 1], method=method)["bytes"]
        for i in range(len(texts))
    ]
    assert torch.equal(torch.cat(alone), first["bytes"])


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_without_strength_nothing_changes(texts, method):
    batch = MODALITY.batch(texts)

    changed = MODALITY.augment(batch, draws(len(texts)), method=method, strength=0.0)

    assert torch.equal(changed["bytes"], batch["bytes"])


def test_word_dropout_leaves_out_a_tenth_of_the_words_and_spells_the_rest_as_before():
    text = " ".join(f"wört{number}" for number in range(60))
    batch = MODALITY.batch([stored(text)] * 100)

    changed = MODALITY.augment(batch, draws(100), method="word_dropout")

    left = [words(changed, row) for row in range(100)]
    assert all(set(each) <= set(text.split()) for each in left)
    assert np.mean([len(each) for each in left]) == pytest.approx(54, abs=2)


def test_views_never_split_a_character():
    batch = MODALITY.batch([stored("é€🙂 " * 12)] * 50)

    changed = MODALITY.augment(batch, draws(50), method="views", strength=1.0)

    assert all(set("".join(words(changed, row))) <= set("é€🙂") for row in range(50))


def test_a_text_of_one_word_keeps_it():
    batch = MODALITY.batch([stored("word")] * 50)

    changed = MODALITY.augment(batch, draws(50), method="views", strength=2.0)

    assert all(words(changed, row) for row in range(50))


def test_a_text_cannot_be_mirrored():
    with pytest.raises(InputError, match="flip"):
        MODALITY.augment(MODALITY.batch([stored("word")]), draws(1), method="word_dropout", flip=True)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_heavier_corruption_is_further_from_the_text_and_the_same_every_time(name):
    texts = [stored(f"The Quick Brown Fox {n} Jumps Over Some Lazy Dogs In Every Single Town " * 3) for n in range(8)]

    def differences(severity: int) -> int:
        changed = CORRUPTIONS[name].apply(texts, severity)
        again = CORRUPTIONS[name].apply(texts, severity)
        assert all(np.array_equal(one, other) for one, other in zip(changed, again, strict=True))
        assert all(each.dtype == np.uint8 and each.tobytes().decode().strip() for each in changed)
        pairs = [(one.tobytes().split(), other.tobytes().split()) for one, other in zip(texts, changed, strict=True)]
        return sum(
            sum(a != b for a, b in zip(one, other, strict=False)) + len(one) - len(other) for one, other in pairs
        )

    found = [differences(severity) for severity in (1, 2, 3)]

    assert 0 < found[0] < found[1] < found[2] or (name == "dropped_words" and 0 < found[0] <= found[1] <= found[2])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_text_is_corrupted_alike_whatever_is_beside_it(name, texts):
    alone = CORRUPTIONS[name].apply(texts[3:4], 2)[0]

    assert np.array_equal(CORRUPTIONS[name].apply(texts, 2)[3], alone)
