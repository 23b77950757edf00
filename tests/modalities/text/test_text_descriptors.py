"""Hashed words and runs of characters, as a plain count gives them."""

import numpy as np
import pytest
import torch

from headstart.modalities.text import MODALITY
from headstart.modalities.text.descriptors import WIDTH
from tests.modalities.text.conftest import GIVEN, stored


def descriptors(*texts: str) -> dict[str, np.ndarray]:
    batch = MODALITY.plain(GIVEN)(MODALITY.batch([stored(text) for text in texts]))
    return {name: values.numpy() for name, values in MODALITY.descriptors(batch).items()}


def test_they_do_not_depend_on_what_else_is_in_the_batch_or_on_case_and_marks():
    alone = descriptors("Shares fell, shares rose")
    beside = descriptors("a much longer text about nothing in particular, really", "(shares FELL) - shares: rose!")

    assert np.allclose(alone["characters"][0], beside["characters"][1])
    assert all(values.shape == (1, WIDTH) and values.dtype == np.float32 for values in alone.values())
    assert np.allclose(np.linalg.norm(alone["words"], axis=1), 1)


def test_words_are_counted_alone_and_in_pairs_and_sublinearly():
    (values,) = descriptors("cat cat dog")["words"]

    # cat twice; dog, cat cat and cat dog once.
    counts = np.sort(np.expm1(values[values > 0] * np.log(2) / values[values > 0].min()))
    assert counts == pytest.approx([1, 1, 1, 2], abs=1e-4)


def test_texts_with_more_words_in_common_are_closer():
    values = descriptors("the match ended with a goal", "a goal ended the match", "banks sold shares at a profit")[
        "words"
    ]

    assert values[0] @ values[1] > values[0] @ values[2] + 0.2


def test_texts_without_any_word_have_none():
    assert not any(values.any() for values in descriptors("!? ;").values())


def test_long_words_count_by_their_end_and_padding_is_no_letter():
    one, other = descriptors("x" * 30 + "ending", "y" + "x" * 29 + "ending")["words"]

    assert np.array_equal(one, other)
    batch = MODALITY.batch([stored("word"), stored("word and many others")])
    assert torch.equal(MODALITY.descriptors(batch)["words"][0], MODALITY.descriptors(batch[:1])["words"][0])
